"""Which way a picture moves in each of its steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.controlnet import Control
from flux_endpoint.engine.lora.active import ActiveLoras, acting_on
from flux_endpoint.engine.text import PromptEmbeds
from flux_endpoint.files.lora_names import Tower

# The number of a step, 0 for the first, and packed latents at its noise level, to the velocity from data to noise.
Velocity = Callable[[int, Tensor], Tensor]
# The last steps whose velocity was computed, 0 for the first, and these: at most two.
Remembered = list[tuple[int, Tensor]]

# Where most of a picture is decided: with 5 the worst of 40 prompts was at 32 instead of 46 dB.
_FIRST_STEPS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class ReadSource:
    """What a transformer reads beside the noisy picture, of the same device and dtype.

    Attributes:
        tokens: (1, more tokens, depth), behind those of the picture; None for none.
        ids: (more tokens, 3), float32, on the CPU: where they sit; None with `tokens`.
        channels: (1, image tokens, more), behind the numbers of each token; None for none.
    """

    tokens: Tensor | None = None
    ids: Tensor | None = None
    channels: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What steers one picture, the same in every step.

    Attributes:
        positive: the prompt.
        negative: what to stay away from; None for one forward pass a step instead of two.
        true_cfg_scale: how far the prediction is pushed from `negative` to `positive`; unused without `negative`.
        guidance: distilled guidance, (1,), float32; None for a transformer without that input.
        image_ids: (image tokens, 3), float32, on the CPU; without those of `beside`.
        loras: what changes the transformer; heeded by levels that take LoRAs. None for nothing.
        beside: what else is read; None for the noisy picture alone.
        negative_mode: how `negative` acts.
        control: what a ControlNet adds; heeded by diffusers' own modules alone. None for nothing.
    """

    positive: PromptEmbeds
    negative: PromptEmbeds | None
    true_cfg_scale: float
    guidance: Tensor | None
    image_ids: Tensor
    loras: ActiveLoras | None = None
    beside: ReadSource | None = None
    negative_mode: NegativeMode = NegativeMode.CFG
    control: Control | None = None

    @property
    def ids_read(self) -> Tensor:
        """The positions of all image tokens that are read, in their order: (tokens, 3)."""
        if self.beside is None or self.beside.ids is None:
            return self.image_ids
        return torch.cat((self.image_ids, self.beside.ids))


@torch.inference_mode()
def predict_clean(latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Where the picture would end if the velocity stayed as it is: the latents without their noise.

    Args:
        latents: of any layout, at noise level `sigma`.
        velocity: from data to noise, same shape.
        sigma: scalar, 0 to 1.
    """
    return latents - sigma.to(latents.dtype) * velocity


def exact_velocity(
    transformer: FluxTransformer2DModel, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions
) -> Velocity:
    """The velocity as `diffusers.FluxPipeline` computes it, of the shape and dtype of the latents.

    Args:
        transformer: predicts it.
        timesteps: (steps,), float32, 1000 to 0.
        prompt: the one that steers.
        conditions: of the picture; its prompts are not read.
    """
    ids = conditions.ids_read

    @torch.inference_mode()
    def velocity(step: int, latents: Tensor) -> Tensor:
        arguments: dict[str, Any] = {
            "hidden_states": latents,
            # Cast before the division: FluxPipeline's order, which bfloat16 can tell from the other one.
            "timestep": timesteps[step].expand(1).to(latents.dtype) / 1000,
            "guidance": conditions.guidance,
            "pooled_projections": prompt.pooled,
            "encoder_hidden_states": prompt.sequence,
            # Text tokens have no place in the picture.
            "txt_ids": torch.zeros(prompt.length, 3),
            "img_ids": ids,
        }
        if conditions.control is not None:
            arguments |= conditions.control.added(step, timesteps, latents)
        with acting_on(conditions.loras, Tower.TRANSFORMER, transformer):
            result: Tensor = transformer(**arguments, return_dict=False)[0]
        return result

    return velocity


def reading(velocity: Velocity, beside: ReadSource) -> Velocity:
    """The velocity of a picture whose transformer reads something beside it.

    Args:
        velocity: of all that is read.
        beside: what else that is.
    """

    @torch.inference_mode()
    def of_picture(step: int, latents: Tensor) -> Tensor:
        read = latents
        if beside.channels is not None:
            read = torch.cat((read, beside.channels), dim=2)
        if beside.tokens is not None:
            read = torch.cat((read, beside.tokens), dim=1)
        return velocity(step, read)[:, : latents.shape[1]]

    return of_picture


def guided(towards: Velocity, away: Velocity, scale: float) -> Velocity:
    """True classifier-free guidance: the velocity of a prompt, pushed away from that of a negative prompt."""

    @torch.inference_mode()
    def velocity(step: int, latents: Tensor) -> Tensor:
        prediction = towards(step, latents)
        negative = away(step, latents)
        return negative + scale * (prediction - negative)

    return velocity


def extrapolated(velocity: Velocity, timesteps: Tensor, known: Remembered) -> Velocity:
    """Most velocities from the straight line through the last two that were computed, see `is_extrapolated`.

    The next one that is computed shows how far the line was off. What the steps left out were off, by the parabola
    through all three, is made up for in that step.

    Args:
        velocity: of one picture.
        timesteps: (steps,), of that picture.
        known: what it remembers of that picture: empty at its beginning, and changed here.
    """
    # What each step goes, of a thousand: the noise levels are those of `FlowMatchEulerDiscreteScheduler`.
    lengths = timesteps.diff(append=timesteps.new_zeros(1))

    def on_the_line(step: int) -> Tensor:
        (step_before, before), (step_last, last) = known
        time_before, time_last = timesteps[step_before], timesteps[step_last]
        return last + (last - before) * ((timesteps[step] - time_last) / (time_last - time_before))

    def left_out_by(step: int) -> Tensor:
        """How often what the line is off at `step` was left out before it, as steps of the length of that one."""
        (step_before, _), (step_last, _) = known
        since = slice(step_last + 1, step + 1)
        # From the line, a parabola through its two points goes away as this does.
        bends = (timesteps[since] - timesteps[step_before]) * (timesteps[since] - timesteps[step_last])
        return (bends[:-1] * lengths[since][:-1]).sum() / (bends[-1] * lengths[step])

    @torch.inference_mode()
    def mostly(step: int, latents: Tensor) -> Tensor:
        if is_extrapolated(step, len(timesteps)):
            return on_the_line(step)
        computed = effective = velocity(step, latents)
        if known and is_extrapolated(step - 1, len(timesteps)):
            effective = computed + (computed - on_the_line(step)) * left_out_by(step)
        known.append((step, computed))
        del known[:-2]
        return effective

    return mostly


def is_remembered(steps_done: int) -> bool:
    """Whether `extrapolated` needs what it remembers to go on after so many steps: else it computes two anew first."""
    return steps_done > _FIRST_STEPS - 2


def is_extrapolated(step: int, steps: int) -> bool:
    """Whether `extrapolated` asks no transformer in this step, 0 for the first.

    It asks in the first six, and in as many as a quarter of all, evenly after them, the last step among them.
    """
    if step < _FIRST_STEPS:
        return False
    left = steps - _FIRST_STEPS
    passes = min(left, -(-steps // 4))
    return step not in {_FIRST_STEPS - 1 + round(left * number / passes) for number in range(1, passes + 1)}
