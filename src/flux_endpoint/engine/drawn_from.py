"""What a picture is drawn from beside noise and words: each family of models makes something else of pictures."""

from collections.abc import Generator, Mapping
from dataclasses import replace

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.control import read_map
from flux_endpoint.engine.denoise import ReadSource
from flux_endpoint.engine.encoded_source import EncodedSource, encode_source
from flux_endpoint.engine.fill import read_hole
from flux_endpoint.engine.kontext import read_picture
from flux_endpoint.engine.latents import RenderSize

# What the steps start from, and what the transformer reads in each of them.
Read = tuple[EncodedSource | None, ReadSource | None]


def read_sources(
    vae: AutoencoderKL,
    family: ModelFamily,
    request: GenerationRequest,
    files: Mapping[str, bytes],
    size: RenderSize,
    noise: Tensor,
) -> Generator[None, None, Read]:
    """Read and encode the pictures that a request names, slice by slice.

    Args:
        vae: of the model.
        family: of the model.
        request: for one picture.
        files: by their `sha256`.
        size: of the picture that is drawn.
        noise: (1, tokens, depth), packed, of the model's device and dtype.
    """
    if family.reads_map:
        return None, (yield from read_map(vae, request, files, size))
    image = request.image
    if family is ModelFamily.KONTEXT:
        return None, None if image is None else (yield from read_picture(vae, files[image.sha256]))
    source = None if image is None else (yield from encode_source(vae, request, files, size, noise))
    if family is not ModelFamily.FILL:
        return source, None
    beside = yield from read_hole(vae, source, size)
    # It draws the whole picture, and knows by itself what stays.
    return source and replace(source, mask=None), beside
