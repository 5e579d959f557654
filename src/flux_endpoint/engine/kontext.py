"""The picture that Kontext changes: it reads it beside the noisy one, as tokens of a layer of their own."""

import io
import math
from collections.abc import Generator
from typing import Final

import numpy as np
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image

from flux_endpoint.engine.denoise import ReadSource
from flux_endpoint.engine.encoded_source import encode, to_numbers
from flux_endpoint.engine.latents import RenderSize, image_ids, pack_latents

# The size of pictures that it was trained with. A larger one would make each step slower without showing it more.
_MOST_PIXELS: Final = 1024 * 1024


def read_picture(vae: AutoencoderKL, data: bytes) -> Generator[None, None, ReadSource]:
    """Encode a picture to be read, slice by slice.

    Its size is its own, whatever the size of what is drawn: up to a megapixel only what is over after whole tokens is
    scaled away.

    Args:
        vae: of the model.
        data: of a PNG file.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    with Image.open(io.BytesIO(data)) as image:
        size = size_read(image.width, image.height, scale)
        fitted = image.convert("RGB").resize((size.width_px, size.height_px), Image.Resampling.LANCZOS)
    latents = yield from encode(vae, to_numbers(np.asarray(fitted)).to(vae.device, vae.dtype))
    ids = image_ids(size)
    # The layer of what is drawn is 0.
    ids[:, 0] = 1
    return ReadSource(tokens=pack_latents(latents), ids=ids)


def size_read(width_px: int, height_px: int, vae_scale_factor: int) -> RenderSize:
    """The size at which a picture is read: whole tokens, and no more than a megapixel.

    Args:
        width_px: of the picture.
        height_px: of the picture.
        vae_scale_factor: pixels per latent along one side.
    """
    shrink = min(1.0, math.sqrt(_MOST_PIXELS / (width_px * height_px)))
    step = 2 * vae_scale_factor
    columns, rows = (max(1, int(side * shrink) // step) for side in (width_px, height_px))
    return RenderSize(columns * step, rows * step, 2 * columns, 2 * rows)
