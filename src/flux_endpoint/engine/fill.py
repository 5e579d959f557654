"""The picture that Fill completes: it reads it with the hole cut out, and the hole's own pixels, beside each token."""

from collections.abc import Generator

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from flux_endpoint.engine.denoise import ReadSource
from flux_endpoint.engine.encoded_source import HALF, EncodedSource, encode, to_numbers
from flux_endpoint.engine.latents import RenderSize, pack_latents


def read_hole(vae: AutoencoderKL, source: EncodedSource | None, size: RenderSize) -> Generator[None, None, ReadSource]:
    """Encode a picture without what is drawn anew, slice by slice.

    Args:
        vae: of the model.
        source: None for a hole as large as the picture, as is a source without a mask.
        size: of the picture that is drawn.
    """
    hole = torch.ones(1, 1, size.height_px, size.width_px)
    pixels = torch.zeros(1, 3, size.height_px, size.width_px)
    if source is not None and source.anew is not None:
        hole = _hole(source.anew)
        pixels = to_numbers(source.pixels) * (1 - hole)
    latents = yield from encode(vae, pixels.to(vae.device, vae.dtype))
    packed = _packed(hole, size).to(vae.device, vae.dtype)
    return ReadSource(channels=torch.cat((pack_latents(latents), packed), dim=2))


def _hole(anew: NDArray[np.uint8]) -> Tensor:
    """1 where the picture is drawn anew and 0 elsewhere, (1, 1, height, width), float32."""
    share = torch.from_numpy(anew.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    return (share >= HALF).float()


def _packed(hole: Tensor, size: RenderSize) -> Tensor:
    """Each token's own pixels of the hole, (1, tokens, pixels): the pixels of a latent are its channels."""
    scale = size.width_px // size.latent_width
    pixels = hole.view(1, size.latent_height, scale, size.latent_width, scale).permute(0, 2, 4, 1, 3)
    return pack_latents(pixels.reshape(1, scale * scale, size.latent_height, size.latent_width))
