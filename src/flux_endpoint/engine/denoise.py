"""One denoising step: ask the transformer, move along the schedule."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from flux_endpoint.engine.text import PromptEmbeds


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What steers one picture, the same in every step.

    Attributes:
        positive: the prompt.
        negative: what to stay away from; None for one forward pass a step instead of two.
        true_cfg_scale: how far the prediction is pushed from `negative` to `positive`; unused without `negative`.
        guidance: distilled guidance, (1,), float32; None for a transformer without that input.
        image_ids: (image tokens, 3), float32, on the CPU.
    """

    positive: PromptEmbeds
    negative: PromptEmbeds | None
    true_cfg_scale: float
    guidance: Tensor | None
    image_ids: Tensor


@torch.inference_mode()
def denoise_step(
    transformer: FluxTransformer2DModel,
    scheduler: FlowMatchEulerDiscreteScheduler,
    latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
) -> tuple[Tensor, Tensor]:
    """Move a picture from one noise level to the next.

    Args:
        transformer: predicts the velocity from data to noise.
        scheduler: of this picture alone; it counts the step.
        latents: packed latents, (1, image tokens, in_channels).
        timestep: scalar, float32, 1000 to 0: the next of `scheduler.timesteps`.
        conditions: of this picture.

    Returns:
        Packed latents at the next noise level, and the velocity that led there; both of the same shape and dtype.
    """
    prediction = predict(transformer, latents, timestep, conditions.positive, conditions)
    if conditions.negative is not None:
        away = predict(transformer, latents, timestep, conditions.negative, conditions)
        prediction = away + conditions.true_cfg_scale * (prediction - away)
    moved: Tensor = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return moved, prediction


@torch.inference_mode()
def predict_clean(latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Where the picture would end if the velocity stayed as it is: the latents without their noise.

    Args:
        latents: of any layout, at noise level `sigma`.
        velocity: from data to noise, same shape.
        sigma: scalar, 0 to 1.
    """
    return latents - sigma.to(latents.dtype) * velocity


def predict(
    transformer: FluxTransformer2DModel, latents: Tensor, timestep: Tensor, prompt: PromptEmbeds, conditions: Conditions
) -> Tensor:
    """One forward pass.

    Returns:
        The predicted velocity, shape and dtype of `latents`.
    """
    arguments: dict[str, Any] = {
        "hidden_states": latents,
        # Cast before the division: FluxPipeline's order, which bfloat16 can tell from the other one.
        "timestep": timestep.expand(1).to(latents.dtype) / 1000,
        "guidance": conditions.guidance,
        "pooled_projections": prompt.pooled,
        "encoder_hidden_states": prompt.sequence,
        # Text tokens have no place in the picture.
        "txt_ids": torch.zeros(prompt.limit, 3),
        "img_ids": conditions.image_ids,
    }
    velocity: Tensor = transformer(**arguments, return_dict=False)[0]
    return velocity
