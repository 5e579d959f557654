"""The speed levels of one loaded model: made, checked and measured when it is loaded."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.engine.channels_last import ChannelsLastDecoder, can_decode
from flux_endpoint.engine.decode import Decoder, exact_decoder
from flux_endpoint.engine.denoise import Conditions, Velocity, exact_velocity, extrapolated, guided
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.latents import RenderSize, image_ids
from flux_endpoint.engine.linear import fast_dtype
from flux_endpoint.engine.text import PromptEmbeds

_LOG = logging.getLogger(__name__)

# The levels hold copies of the transformer, in float32 and bfloat16; beyond this many numbers only `none` is offered.
_MOST_PARAMETERS: Final = 250_000_000
# What a pass must come near to, as the length of the difference by the length of the velocity: a hundred times what
# other sums bring about, and five times what rounding to bfloat16 does.
_FARTHEST: Final = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
_CHECKED: Final = RenderSize(0, 0, 16, 16)
_TURNS: Final = 3

_Passes = Callable[[Tensor, PromptEmbeds, Conditions], Velocity]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One way of drawing.

    Attributes:
        name: as it is told to clients.
        passes: the velocity of one prompt, for the timesteps of one picture.
        decoder: from latents to pixels.
        is_extrapolated: whether every second pass is left out.
    """

    name: Acceleration
    passes: _Passes
    decoder: Decoder
    is_extrapolated: bool = False

    def velocity(self, timesteps: Tensor, conditions: Conditions) -> Velocity:
        """The velocity of one picture, guided by its negative prompt if it has one; whatever it remembers is its own.

        Args:
            timesteps: (steps,), float32, 1000 to 0.
            conditions: of the picture.
        """
        towards = self.passes(timesteps, conditions.positive, conditions)
        if conditions.negative is not None:
            away = self.passes(timesteps, conditions.negative, conditions)
            towards = guided(towards, away, conditions.true_cfg_scale)
        return extrapolated(towards, timesteps) if self.is_extrapolated else towards


class Levels:
    """What a loaded model offers. On a GPU, for large models and for those not in float32 that is `none` alone.

    Args:
        transformer: of the model.
        vae: of the model.
        device: where they are.
    """

    def __init__(self, transformer: FluxTransformer2DModel, vae: AutoencoderKL, device: torch.device) -> None:
        def exact(timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Velocity:
            return exact_velocity(transformer, timesteps, prompt, conditions)

        none = Level(Acceleration.NONE, exact, exact_decoder(vae))
        self._levels: dict[Acceleration, Level] = {none.name: none}
        parameters = sum(parameter.numel() for parameter in transformer.parameters())
        if device.type != "cpu" or parameters > _MOST_PARAMETERS or transformer.dtype != torch.float32:
            _LOG.info("Acceleration: only none is offered for this model on %s", device)
            return
        for name, dtype in ((Acceleration.REGULAR, torch.float32), (Acceleration.HIGH, fast_dtype())):
            level = _fused(name, transformer, vae, dtype)
            distance, share = _compare(transformer, level, none)
            is_offered = distance <= _FARTHEST[dtype]
            if is_offered:
                self._levels[name] = level
            _LOG.log(
                logging.INFO if is_offered and share < 1 else logging.WARNING,
                "Acceleration %s%s: a pass in %s takes %.2f of the exact one's time here and is %.0e off",
                name,
                "" if is_offered else " is not offered",
                str(dtype).removeprefix("torch."),
                share,
                distance,
            )

    def level_for(self, asked: Acceleration, *, has_negative: bool) -> Level:
        """The level that a picture is drawn at: the one asked for, or the next slower one that there is.

        Args:
            asked: by the client.
            has_negative: whether a negative prompt acts: its worst case in bfloat16 is not understood, so that `high`
                becomes `regular`.
        """
        if asked is Acceleration.HIGH and (has_negative or asked not in self._levels):
            asked = Acceleration.REGULAR
        return self._levels.get(asked, self._levels[Acceleration.NONE])


def _fused(name: Acceleration, transformer: FluxTransformer2DModel, vae: AutoencoderKL, dtype: torch.dtype) -> Level:
    fused = FusedTransformer(transformer, Build(dtype))

    def passes(timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Velocity:
        plan = fused.plan(timesteps, prompt, conditions)
        return lambda step, latents: fused.velocity(plan, step, latents)

    decoder = ChannelsLastDecoder(vae, dtype) if can_decode(vae) else exact_decoder(vae)
    return Level(name, passes, decoder, is_extrapolated=name is Acceleration.HIGH)


def _compare(transformer: FluxTransformer2DModel, level: Level, none: Level) -> tuple[float, float]:
    """How far a pass is off, and its CPU time by that of the exact one, of a small picture of noise."""
    config = transformer.config
    random = torch.Generator().manual_seed(0)
    ids = image_ids(_CHECKED)
    latents = torch.randn(1, len(ids), config.in_channels, generator=random)
    limit = 64
    prompt = PromptEmbeds(
        torch.randn(1, limit, config.joint_attention_dim, generator=random),
        torch.randn(1, config.pooled_projection_dim, generator=random),
        limit,
        limit,
    )
    guidance = torch.full([1], 3.5) if config.guidance_embeds else None
    conditions = Conditions(prompt, None, 1.0, guidance, ids)
    timesteps = torch.tensor([1000.0, 500.0])
    results, times = [], []
    for one in (none, level):
        velocity = one.passes(timesteps, prompt, conditions)
        results.append(velocity(1, latents))
        times.append(median(_timed(velocity, latents)))
    exact, fused = results
    return float((fused - exact).norm() / exact.norm()), times[1] / times[0]


def _timed(velocity: Velocity, latents: Tensor) -> Iterator[float]:
    for _ in range(_TURNS):
        started_s = time.process_time()
        velocity(1, latents)
        yield time.process_time() - started_s
