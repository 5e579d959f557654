"""One way of drawing: a speed level of a loaded model."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.decode import Decoder
from flux_endpoint.engine.denoise import Conditions, Remembered, Velocity, extrapolated, guided, reading
from flux_endpoint.engine.text import PromptEmbeds

# Timesteps and the conditions of a picture to its velocity, in which its negative prompt acts.
Steered = Callable[[Tensor, Conditions], Velocity]
# Timesteps, the prompt that steers, and the conditions of a picture, to its velocity for that prompt.
Passes = Callable[[Tensor, PromptEmbeds, Conditions], Velocity]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One way of drawing.

    Attributes:
        name: as it is told to clients.
        passes: the velocity of one prompt, for the timesteps of one picture.
        decoder: from latents to pixels.
        is_extrapolated: whether most passes are left out.
        takes_negative: whether a negative prompt may act at it; the next slower level that takes it is drawn else.
        takes_loras: whether LoRAs may act on the transformer at it, likewise.
        nag: how one acts inside the attention; None where it cannot, likewise.
    """

    name: Acceleration
    passes: Passes
    decoder: Decoder
    is_extrapolated: bool = False
    takes_negative: bool = True
    takes_loras: bool = False
    nag: Steered | None = None

    def takes(self, negative_mode: NegativeMode) -> bool:
        """Whether a negative prompt may act so at it."""
        return self.takes_negative if negative_mode is NegativeMode.CFG else self.nag is not None

    def velocity(self, timesteps: Tensor, conditions: Conditions, remembered: Remembered) -> Velocity:
        """The velocity of one picture, guided by its negative prompt if it has one.

        Args:
            timesteps: (steps,), float32, 1000 to 0.
            conditions: of the picture.
            remembered: of the picture, see `extrapolated`; stays as it is where all velocities are computed.
        """
        if conditions.negative is not None and conditions.negative_mode is NegativeMode.NAG:
            assert self.nag is not None
            return _reading(self.nag(timesteps, conditions), conditions)
        towards = self._of(conditions.positive, timesteps, conditions)
        if conditions.negative is not None:
            away = self._of(conditions.negative, timesteps, conditions)
            towards = guided(towards, away, conditions.true_cfg_scale)
        return extrapolated(towards, timesteps, remembered) if self.is_extrapolated else towards

    def _of(self, prompt: PromptEmbeds, timesteps: Tensor, conditions: Conditions) -> Velocity:
        return _reading(self.passes(timesteps, prompt, conditions), conditions)


def _reading(velocity: Velocity, conditions: Conditions) -> Velocity:
    return velocity if conditions.beside is None else reading(velocity, conditions.beside)
