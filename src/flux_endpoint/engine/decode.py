"""Latents to pixels."""

from collections.abc import Callable

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from flux_endpoint.core.errors import NonFinite

# Normalised latents, (1, latent_channels, h, w), to pixels, (1, 3, height, width), about -1 to 1.
Decoder = Callable[[Tensor], Tensor]


def exact_decoder(vae: AutoencoderKL) -> Decoder:
    """The decoder as diffusers runs it, of latents that were normalised with the scale and shift of its config."""
    return lambda latents: vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[
        0
    ]


@torch.inference_mode()
def decode_latents(decoder: Decoder, latents: Tensor) -> NDArray[np.uint8]:
    """Decode one picture.

    Args:
        decoder: makes pixels of about -1 to 1.
        latents: (1, latent_channels, h, w).

    Returns:
        (height, width, 3), 8-bit RGB, at `vae_scale_factor` pixels per latent.

    Raises:
        NonFinite: there are NaN or infinite numbers in the latents or in what becomes of them.
    """
    # Once a picture and not once a step: such numbers never go away again.
    _check_finite(latents, "transformer")
    pixels = decoder(latents)
    _check_finite(pixels, "autoencoder")
    pixels = (pixels * 0.5 + 0.5).clamp(0, 1)
    pixels = pixels.permute(0, 2, 3, 1)[0].float()
    levels: NDArray[np.uint8] = (pixels * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def _check_finite(numbers: Tensor, component: str) -> None:
    if not torch.isfinite(numbers).all():
        raise NonFinite(component)


def crop_to(pixels: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Cut the middle out of a picture.

    Args:
        pixels: (height, width, 3), not smaller than the size asked for.
        width_px: of the result.
        height_px: of the result.

    Returns:
        (height_px, width_px, 3); of an odd number of surplus lines the larger part goes at the right or bottom.
    """
    height, width, _ = pixels.shape
    top = (height - height_px) // 2
    left = (width - width_px) // 2
    return np.ascontiguousarray(pixels[top : top + height_px, left : left + width_px])
