"""The map that Canny and Depth draw along: they read it beside each token, as latents."""

from collections.abc import Generator, Mapping

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.denoise import ReadSource
from flux_endpoint.engine.encoded_source import encode, pixels_of, to_numbers
from flux_endpoint.engine.latents import RenderSize, pack_latents


def read_map(
    vae: AutoencoderKL, request: GenerationRequest, files: Mapping[str, bytes], size: RenderSize
) -> Generator[None, None, ReadSource]:
    """Encode a map, slice by slice.

    Args:
        vae: of the model.
        request: without a `control_image`, its map is black.
        files: by their `sha256`.
        size: of the picture that is drawn.
    """
    latents = yield from encode(vae, map_numbers(request, files, size).to(vae.device, vae.dtype))
    return ReadSource(channels=pack_latents(latents))


def map_numbers(request: GenerationRequest, files: Mapping[str, bytes], size: RenderSize) -> torch.Tensor:
    """The map's pixels, -1 to 1, (1, 3, height, width), float32.

    Row by row in memory and not pixel by pixel as with `to_numbers`: diffusers copies what controls once more than
    what is drawn from, and which convolution torch takes, and with it the last bits, hangs on that.
    """
    pixels = np.zeros((size.height_px, size.width_px, 3), np.uint8)
    if request.control_image is not None:
        pixels = pixels_of(files[request.control_image.sha256], "RGB", request, size)
    return to_numbers(pixels).contiguous()
