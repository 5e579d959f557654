"""A picture that another one starts from: its pixels, its latents, and what of it stays."""

import io
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.decode import Slices, middle_layers, pause_before
from flux_endpoint.engine.latents import RenderSize, pack_latents

# From here on a pixel of the mask is drawn anew, as diffusers rounds it.
HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSource:
    """What a picture is drawn from, at its rendered size.

    Attributes:
        latents: (1, tokens, depth), packed and without noise, of the model's device and dtype.
        noise: of the same shape: what a picture of noise alone starts from.
        mask: as `latents`, 1 where the picture is drawn anew and 0 where it stays; None for anew everywhere.
        pixels: (height, width, 3), 8-bit RGB.
        anew: (height, width, 1), 0 to 255: how much of each pixel is drawn anew; None with `mask`.
    """

    latents: Tensor
    noise: Tensor
    mask: Tensor | None
    pixels: NDArray[np.uint8]
    anew: NDArray[np.uint8] | None

    @torch.inference_mode()
    def under_noise(self, sigma: Tensor) -> Tensor:
        """The latents at a noise level, in the order of diffusers' sums.

        Args:
            sigma: scalar, 0 to 1; at 1 they are the noise.
        """
        sigma = sigma.to(self.latents.device, self.latents.dtype)
        return sigma * self.noise + (1.0 - sigma) * self.latents

    @torch.inference_mode()
    def keep(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """What has been drawn, with the source where the mask says that it stays.

        Args:
            latents: as they are after a step.
            sigma: scalar, the noise level after it.
        """
        if self.mask is None:
            return latents
        return (1 - self.mask) * self.under_noise(sigma) + self.mask * latents

    def paste(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The finished pixels, with those of the source where the mask says that they stay: no autoencoder between.

        Args:
            pixels: (height, width, 3), of the rendered size.
        """
        if self.anew is None:
            return pixels
        share = self.anew.astype(np.float32) / 255
        return np.rint(share * pixels + (1 - share) * self.pixels).astype(np.uint8)


def encode_source(
    vae: AutoencoderKL, request: GenerationRequest, files: Mapping[str, bytes], size: RenderSize, noise: Tensor
) -> Generator[None, None, EncodedSource]:
    """Read and encode the picture that a request starts from, slice by slice.

    Args:
        vae: of the model.
        request: with an image.
        files: by their `sha256`.
        size: of the picture that is drawn.
        noise: (1, tokens, depth), packed, of the model's device and dtype.
    """
    assert request.image is not None
    pixels = pixels_of(files[request.image.sha256], "RGB", request, size)
    latents = yield from encode(vae, to_numbers(pixels).to(noise.device, noise.dtype))
    mask, anew = None, None
    if request.mask is not None:
        anew = pixels_of(files[request.mask.sha256], "L", request, size)
        mask = _token_mask(anew, size, latents.shape[1]).to(noise.device, noise.dtype)
    return EncodedSource(pack_latents(latents), noise, mask, pixels, anew)


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Slices:
    """Pixels to normalised latents, the middle of what the autoencoder holds for possible: nothing is drawn by lot.

    Args:
        vae: its layers are called one by one, each as diffusers calls it: the layout in memory, and with it the last
            bits, follow from that.
        pixels: (1, 3, height, width), -1 to 1, of the autoencoder's device and dtype.

    Returns:
        (1, latent_channels, h, w).
    """
    encoder = vae.encoder
    hidden = encoder.conv_in(pixels)
    for layer in _layers(encoder):
        yield from pause_before(hidden)
        # Without the time that the same layers have in other models.
        hidden = layer(hidden, None) if isinstance(layer, ResnetBlock2D) else layer(hidden)
    moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(hidden)))
    if vae.quant_conv is not None:
        moments = vae.quant_conv(moments)
    mean, _ = moments.chunk(2, dim=1)
    latents: Tensor = (mean - vae.config.shift_factor) * vae.config.scaling_factor
    return latents


def _layers(encoder: Any) -> Iterator[Any]:
    for block in encoder.down_blocks:
        yield from (*block.resnets, *(block.downsamplers or ()))
    yield from middle_layers(encoder)


def pixels_of(data: bytes, mode: str, request: GenerationRequest, size: RenderSize) -> NDArray[np.uint8]:
    """A file's pixels: the largest middle part of the shape asked for, and a margin.

    Args:
        data: of a PNG file.
        mode: Pillow's, `RGB` or `L`.
        request: of the shape asked for.
        size: that is rendered.

    Returns:
        (height, width, channels).
    """
    with Image.open(io.BytesIO(data)) as image:
        # Of equal shapes this is one plain `resize`, as diffusers has it.
        fitted = ImageOps.fit(image.convert(mode), (request.width, request.height), Image.Resampling.LANCZOS)
    top, left = (size.height_px - request.height) // 2, (size.width_px - request.width) // 2
    bottom, right = size.height_px - request.height - top, size.width_px - request.width - left
    pixels = np.asarray(fitted).reshape(request.height, request.width, -1)
    return np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="edge")


def to_numbers(pixels: NDArray[np.uint8]) -> Tensor:
    """0 to 255, (height, width, 3), to -1 to 1, (1, 3, height, width), float32.

    Laid out in memory as diffusers has it, stride of the batch included: in which order torch adds hangs on that
    (findings/torch_stride_of_a_batch_of_one.sh).
    """
    return 2.0 * torch.from_numpy(pixels[None].astype(np.float32) / 255.0).permute(0, 3, 1, 2) - 1.0


def _token_mask(anew: NDArray[np.uint8], size: RenderSize, channels: int) -> Tensor:
    """0 or 1 for each number of the packed latents, float32: 1 where any of its pixels is drawn anew.

    diffusers looks at one pixel of 64, so that strokes thinner than a latent are lost, or some of their edges
    (findings/diffusers_inpainting_reads_one_pixel_of_64.sh). Masks whose edges lie between latents are read alike.
    """
    mask = torch.from_numpy(anew.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    mask = functional.max_pool2d((mask >= HALF).float(), size.height_px // size.latent_height)
    return pack_latents(mask.repeat(1, channels, 1, 1))
