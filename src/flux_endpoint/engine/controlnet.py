"""What a ControlNet adds to the blocks of a transformer, as diffusers' `FluxControlNetPipeline` has it."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor

from flux_endpoint.core.controlnet import ControlMode
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.text import PromptEmbeds

_NOTHING: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """Of what and of how much a ControlNet is to think in one picture.

    Attributes:
        map: the map, (1, image tokens, depth), packed latents; pixels, (1, 3, height, width), -1 to 1, for one that
            `reads_pixels`.
        prompt: the one that steers; the negative prompt is not read, in diffusers neither.
        image_ids: (image tokens, 3), float32, on the CPU.
        guidance: distilled guidance, (1,), float32; None for a transformer without that input.
        mode: the number of the map's kind; None for a ControlNet that does not read it.
        scale: what its numbers are multiplied by.
        start: share of the steps from which it acts.
        end: share of the steps up to which it acts.
    """

    map: Tensor
    prompt: PromptEmbeds
    image_ids: Tensor
    guidance: Tensor | None
    mode: int | None
    scale: float
    start: float
    end: float

    def acts_in(self, step: int, steps: int) -> bool:
        """Whether it acts in a step, 0 for the first, of so many: one that lies between start and end as a whole."""
        return not (step / steps < self.start or (step + 1) / steps > self.end)


class Control:
    """A ControlNet at work on one picture.

    Args:
        controlnet: on the device of the transformer, in its dtype.
        steering: of the picture.
    """

    def __init__(self, controlnet: FluxControlNetModel, steering: Steering) -> None:
        self._controlnet = controlnet
        self._steering = steering
        mode = steering.mode
        self._mode = None if mode is None else torch.tensor([[mode]], device=steering.map.device)
        # The passes of a prompt and of its negative prompt begin with the same latents, and get the same.
        self._read: Tensor | None = None
        self._added = _NOTHING

    @torch.inference_mode()
    def added(self, step: int, timesteps: Tensor, latents: Tensor) -> dict[str, Any]:
        """What the transformer is given for one step, under the names of its arguments; empty where it adds nothing.

        Args:
            step: 0 for the first.
            timesteps: (steps,), float32, 1000 to 0.
            latents: (1, image tokens, depth), packed, at the noise level of the step.
        """
        if not self._steering.acts_in(step, len(timesteps)):
            return _NOTHING
        if self._read is not latents:
            self._read, self._added = latents, self._pass(timesteps[step], latents)
        return self._added

    def _pass(self, timestep: Tensor, latents: Tensor) -> dict[str, Any]:
        steering, config = self._steering, self._controlnet.config
        doubles, singles = self._controlnet(
            hidden_states=latents,
            controlnet_cond=steering.map,
            controlnet_mode=self._mode,
            conditioning_scale=steering.scale,
            timestep=timestep.expand(1).to(latents.dtype) / 1000,
            guidance=steering.guidance if config.guidance_embeds else None,
            pooled_projections=steering.prompt.pooled,
            encoder_hidden_states=steering.prompt.sequence,
            txt_ids=torch.zeros(steering.prompt.length, 3),
            img_ids=steering.image_ids,
            return_dict=False,
        )
        return {
            "controlnet_block_samples": doubles,
            "controlnet_single_block_samples": singles,
            # Those of XLabs count the blocks in another way.
            "controlnet_blocks_repeat": reads_pixels(self._controlnet),
        }


def reads_pixels(controlnet: FluxControlNetModel) -> bool:
    """Whether it reads its map as pixels, as those of XLabs do, and not as latents."""
    return controlnet.input_hint_block is not None


def steering_of(
    request: GenerationRequest,
    read_map: Tensor,
    prompt: PromptEmbeds,
    image_ids: Tensor,
    guidance: Tensor | None,
) -> Steering:
    """What a request says of its ControlNet.

    Args:
        request: for one picture, with a `control_scale`.
        read_map: see `Steering.map`.
        prompt: see `Steering`; so for what follows.
        image_ids: likewise.
        guidance: likewise.
    """
    scale, start, end = request.control_scale, request.control_start, request.control_end
    assert scale is not None and start is not None and end is not None
    mode = None if request.control_mode is None else ControlMode(request.control_mode).number
    return Steering(read_map, prompt, image_ids, guidance, mode, scale, start, end)
