"""What a picture is drawn from beside noise and words: each family of models makes something else of pictures."""

from collections.abc import Generator, Mapping
from dataclasses import replace

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.control import map_numbers, read_map
from flux_endpoint.engine.controlnet import Control, reads_pixels, steering_of
from flux_endpoint.engine.denoise import ReadSource
from flux_endpoint.engine.encoded_source import EncodedSource, encode_source
from flux_endpoint.engine.fill import read_hole
from flux_endpoint.engine.kontext import read_picture
from flux_endpoint.engine.latents import RenderSize, image_ids
from flux_endpoint.engine.text import PromptEmbeds

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


def read_control(
    vae: AutoencoderKL,
    controlnet: FluxControlNetModel | None,
    request: GenerationRequest,
    files: Mapping[str, bytes],
    size: RenderSize,
    prompt: PromptEmbeds,
    guidance: Tensor | None,
) -> Generator[None, None, Control | None]:
    """Read and encode the map of a ControlNet, slice by slice; None where the request has none.

    Args:
        vae: of the model.
        controlnet: beside the model; None for none.
        request: for one picture.
        files: by their `sha256`.
        size: of the picture that is drawn.
        prompt: the one that steers.
        guidance: distilled guidance, (1,), float32.

    Raises:
        CheckpointError: there is no ControlNet, or one of another kind than the gateway has been told of.
    """
    if request.control_scale is None or request.control_image is None:
        return None
    if controlnet is None:
        # The gateway has been told of a ControlNet, and this worker has not.
        raise CheckpointError("this worker reads no control_image: it was started without CONTROLNET_MODEL")
    if controlnet.union != (request.control_mode is not None):
        kinds = "several kinds of maps" if controlnet.union else "one kind of map"
        raise CheckpointError(
            f"this worker's ControlNet reads {kinds}, and not what CONTROLNET_MODEL of the gateway says"
        )
    if reads_pixels(controlnet):
        read = map_numbers(request, files, size).to(vae.device, vae.dtype)
    else:
        encoded = yield from read_map(vae, request, files, size)
        assert encoded.channels is not None
        read = encoded.channels
    return Control(controlnet, steering_of(request, read, prompt, image_ids(size), guidance))
