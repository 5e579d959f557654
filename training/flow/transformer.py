"""The transformer and the few formulas that training and sampling share."""

import math

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor, nn

from training.parallel import pick_device
from training.precision import compute_dtype
from training.text.encoders import WIDTH

PIXELS_PER_TOKEN = 64  # Side of the square one token stands for: 32x autoencoder, 2x2 packing.
# The pipeline's shift is linear in tokens; these ends, 256 and 1536 px, lie half a unit above `training_shift`.
BASE_TOKENS, BASE_SHIFT = 16, 0.1
MAX_TOKENS, MAX_SHIFT = 576, 1.95
DEFAULT_GUIDANCE = 7.5
GUIDED_ABOVE = 0.4  # Noise level; below it only outlines are left to draw, and guidance would make them harsh.


def build_transformer(guided: bool = True) -> FluxTransformer2DModel:
    """A small FLUX transformer of 6.4 M parameters; every block starts as the identity and the output as zero.

    Args:
        guided: with a guidance input, as FLUX.1-dev has it; schnell has none.
    """
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=128,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=64,
        num_attention_heads=3,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=guided,
        axes_dims_rope=(8, 28, 28),
    )
    dtype = compute_dtype(pick_device(0))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)
            if "norm" in name or name == "proj_out":
                nn.init.zeros_(module.weight)
        elif isinstance(module, nn.RMSNorm):
            # Not trained: with weights in the activations' dtype the norm is one fused kernel.
            module.to(dtype).requires_grad_(False)
    return model


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The sampling schedule of FLUX.1-dev, with the shift of this model's token counts."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=BASE_TOKENS,
        base_shift=BASE_SHIFT,
        max_image_seq_len=MAX_TOKENS,
        max_shift=MAX_SHIFT,
    )


def training_shift(tokens: int) -> float:
    """Mean of the noise level's logit: larger pictures keep their layout up to more noise, by half a log per token."""
    return 0.5 * math.log(tokens / 32)


def guidance_strength(guidance: Tensor) -> Tensor:
    """Classifier-free guidance weight that a guidance input stands for: 1 at 1, 3.6 at the default 7.5."""
    return 1 + 0.4 * (guidance - 1)


def guided_rows(guidance: Tensor, named: Tensor) -> Tensor:
    """Numbers of the pictures that guidance moves: those whose guidance is above 1 and whose caption is not empty.

    The empty caption has nothing to move along and keeps its plain velocity at every guidance: negative prompts and
    second passes need it.
    """
    return torch.nonzero((guidance > 1) & named).flatten()


def guidance_step(with_caption: Tensor, without: Tensor, noisy: Tensor, sigma: Tensor, strength: Tensor) -> Tensor:
    """What guidance adds to the velocity: adaptive projected guidance (Sadat et al., 2024).

    Plain guidance also stretches the picture along itself, which saturates colours and tears outlines. Only the part of
    the difference that is at right angles to the predicted picture is kept, and none below `GUIDED_ABOVE`.

    Args:
        with_caption: (n, tokens, 128) velocity.
        without: the same without a caption.
        noisy: (n, tokens, 128) latents mixed with noise.
        sigma: (n,) share of noise.
        strength: (n,) weight of the difference, 1 for no guidance.

    Returns:
        (n, tokens, 128), to be added to `with_caption`.
    """
    share = sigma[:, None, None]
    picture = noisy - share * with_caption
    difference = share * (without - with_caption)
    along = (difference * picture).sum(dim=(1, 2), keepdim=True) / picture.square().sum(dim=(1, 2), keepdim=True)
    weight = torch.where(sigma >= GUIDED_ABOVE, strength - 1, 0)[:, None, None]
    return -weight * (difference - along * picture) / share


def schedule(tokens: int, steps: int) -> list[float]:
    """Noise levels at which `FluxPipeline` calls the model for a picture of so many tokens, and the final 0."""
    slope = (MAX_SHIFT - BASE_SHIFT) / (MAX_TOKENS - BASE_TOKENS)
    shift = float(np.exp(BASE_SHIFT + slope * (tokens - BASE_TOKENS)))
    levels = np.linspace(1.0, 1.0 / steps, steps)
    return [float(shift / (shift + 1 / level - 1)) for level in levels] + [0.0]


def pack(latents: Tensor) -> Tensor:
    """Turn each 2x2 patch into a token: (n, 32, h, w) to (n, h/2 * w/2, 128), row by row."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def unpack(tokens: Tensor, width: int, height: int) -> Tensor:
    """Inverse of `pack` for a picture of the given size in pixels: (n, tokens, 128) to (n, 32, height/32, width/32)."""
    n, rows, columns = len(tokens), height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN
    return tokens.view(n, rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, -1, 2 * rows, 2 * columns)


def position_ids(width: int, height: int, device: torch.device) -> Tensor:
    """Row and column of every picture token: (tokens, 3) float32, first column zero."""
    rows, columns = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN
    ids = torch.zeros(rows, columns, 3, device=device)
    ids[..., 1] = torch.arange(rows, device=device)[:, None]
    ids[..., 2] = torch.arange(columns, device=device)[None, :]
    return ids.view(-1, 3)


def predict(
    model: FluxTransformer2DModel,
    noisy: Tensor,
    sigma: Tensor,
    guidance: Tensor | None,
    pooled: Tensor,
    states: Tensor,
    positions: Tensor,
) -> Tensor:
    """One call of the transformer.

    Args:
        model: the transformer.
        noisy: (n, tokens, 128) packed latents mixed with noise.
        sigma: (n,) share of noise, 0..1.
        guidance: (n,) guidance input; None for a model without one.
        pooled: (n, 128) from CLIP.
        states: (n, length, 128) from T5.
        positions: (tokens, 3) from `position_ids`.

    Returns:
        (n, tokens, 128) predicted velocity, noise minus picture.
    """
    return model(
        hidden_states=noisy,
        timestep=sigma,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=states,
        txt_ids=torch.zeros(states.shape[1], 3, device=noisy.device),
        img_ids=positions,
        return_dict=False,
    )[0]
