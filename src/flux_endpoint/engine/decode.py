"""Latents to pixels, in slices between which other pictures may have their turn."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from flux_endpoint.core.errors import NonFinite

# Yields between two slices, and returns what is made of the whole.
Slices = Generator[None, None, Tensor]
# Normalised latents, (1, latent_channels, h, w), to pixels, (1, 3, height, width), about -1 to 1.
Decoder = Callable[[Tensor], Slices]

# Convolutions of fewer numbers than this take a few milliseconds: not worth a turn.
_LARGE: Final = 1 << 20


def exact_decoder(vae: AutoencoderKL) -> Decoder:
    """The decoder as diffusers runs it, of latents that were normalised with the scale and shift of its config.

    Its layers are called one by one, and their sums written over what nobody needs any more: the same bits, with a
    slice for each convolution of a large map.
    """

    @torch.inference_mode()
    def decode(latents: Tensor) -> Slices:
        decoder = vae.decoder
        hidden = latents / vae.config.scaling_factor + vae.config.shift_factor
        if vae.post_quant_conv is not None:
            hidden = vae.post_quant_conv(hidden)
        hidden = decoder.conv_in(hidden)
        for layer in _layers(decoder):
            if isinstance(layer, ResnetBlock2D):
                hidden = yield from _resnet(layer, hidden)
            else:
                yield from pause_before(hidden)
                hidden = layer(hidden)
        yield from pause_before(hidden)
        pixels: Tensor = decoder.conv_out(_activated(decoder.conv_norm_out, hidden))
        return pixels

    return decode


def _layers(decoder: Any) -> Iterator[Any]:
    """Resnets, attention and upsamplers, in their order."""
    yield from middle_layers(decoder)
    for block in decoder.up_blocks:
        yield from block.resnets
        yield from block.upsamplers or ()


def middle_layers(half: Any) -> Iterator[Any]:
    """Resnets and attention of the smallest map of an encoder or a decoder, in their order."""
    middle = half.mid_block
    yield middle.resnets[0]
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        if attention is not None:
            yield attention
        yield resnet


def _resnet(layer: ResnetBlock2D, hidden: Tensor) -> Slices:
    yield from pause_before(hidden)
    changed = layer.conv1(_activated(layer.norm1, hidden))
    yield from pause_before(changed)
    changed = layer.conv2(_activated(layer.norm2, changed))
    total: Tensor = changed.add_(hidden if layer.conv_shortcut is None else layer.conv_shortcut(hidden))
    return total


def _activated(norm: Any, hidden: Tensor) -> Tensor:
    return functional.silu(norm(hidden), inplace=True)


def pause_before(hidden: Tensor) -> Iterator[None]:
    """Yield once if a convolution of these numbers is worth a slice of its own."""
    if hidden.numel() >= _LARGE:
        yield


@torch.inference_mode()
def decode_latents(decoder: Decoder, latents: Tensor) -> Generator[None, None, NDArray[np.uint8]]:
    """Decode one picture, slice by slice.

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
    pixels = yield from decoder(latents)
    _check_finite(pixels, "autoencoder")
    pixels = (pixels * 0.5).add_(0.5).clamp_(0, 1).float().mul_(255).round_()
    pixels = pixels[0].permute(1, 2, 0).to(torch.uint8, memory_format=torch.contiguous_format)
    levels: NDArray[np.uint8] = pixels.cpu().numpy()
    return levels


def _check_finite(numbers: Tensor, component: str) -> None:
    # Neither the least nor the greatest is a number where one is none.
    if not all(torch.isfinite(limit) for limit in torch.aminmax(numbers)):
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
