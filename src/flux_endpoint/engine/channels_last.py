"""The autoencoder's decoder with the channels of a pixel side by side, as convolutions on a CPU read them fastest."""

from collections.abc import Callable
from typing import Any, Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from flux_endpoint.engine.convolutions import convolution_of
from flux_endpoint.engine.decode import Slices, pause_before
from flux_endpoint.engine.linear import Linear

# One layer; and some of them, with slices between.
_Layer = Callable[[Tensor], Tensor]
_Sliced = Callable[[Tensor], Slices]
# Numbers that are added at once: 1 MiB, what a core's cache holds.
_PIECE: Final = 1 << 18
# As an epsilon: 1 plus it is 1. Older versions of torch refuse 0.
_NONE: Final = 1e-30


def can_decode(vae: AutoencoderKL) -> bool:
    """Whether `ChannelsLastDecoder` knows this autoencoder: norms over all channels at once, and no attention.

    The embedded model's is so; FLUX.1's own has 32 groups and one attention.
    """
    config = vae.config
    return config.norm_num_groups == 1 and not config.mid_block_add_attention and not config.use_post_quant_conv


class ChannelsLastDecoder:
    """Decodes latents to pixels as the autoencoder does.

    A norm over all channels is a `batch_norm` with the mean and variance of the whole map: torch's `group_norm` is
    several times slower in this layout. In bfloat16, where sums are slow, a `layer_norm` of the map as it lies in
    memory comes before a `batch_norm` that only multiplies and adds.

    Args:
        vae: see `can_decode`; its weights are copied.
        dtype: to compute in.
    """

    def __init__(self, vae: AutoencoderKL, dtype: torch.dtype) -> None:
        self._config = vae.config
        self._dtype = dtype
        decoder = vae.decoder
        self._first = self._convolution(decoder.conv_in)
        layers = [self._resnet(resnet) for resnet in decoder.mid_block.resnets]
        for block in decoder.up_blocks:
            layers += [self._resnet(resnet) for resnet in block.resnets]
            layers += [self._upsampler(upsampler.conv) for upsampler in block.upsamplers or ()]
        self._layers = layers
        self._last = self._activation(decoder.conv_norm_out), self._convolution(decoder.conv_out)

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> Slices:
        """(1, latent_channels, h, w), normalised, to (1, 3, height, width), about -1 to 1, float32."""
        hidden: Tensor = latents / self._config.scaling_factor + self._config.shift_factor
        hidden = hidden.to(self._dtype).contiguous(memory_format=torch.channels_last)
        hidden = self._first(hidden)
        for layer in self._layers:
            hidden = yield from layer(hidden)
        yield from pause_before(hidden)
        activation, convolution = self._last
        return convolution(activation(hidden)).float()

    def _convolution(self, layer: Any) -> _Layer:
        return convolution_of(layer.weight.to(self._dtype), layer.bias.to(self._dtype))

    def _resnet(self, layer: Any) -> _Sliced:
        first = self._activation(layer.norm1), self._convolution(layer.conv1)
        second = self._activation(layer.norm2), self._convolution(layer.conv2)
        shortcut = None if layer.conv_shortcut is None else self._pixelwise(layer.conv_shortcut)

        def resnet(hidden: Tensor) -> Slices:
            yield from pause_before(hidden)
            activation, convolution = first
            changed = convolution(activation(hidden))
            yield from pause_before(changed)
            activation, convolution = second
            changed = convolution(activation(changed))
            return changed.add_(hidden) if shortcut is None else shortcut(hidden, changed)

        return resnet

    def _pixelwise(self, layer: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """A convolution of 1 x 1 plus another map: a product of all pixels with one matrix."""
        linear = Linear(layer.weight[:, :, 0, 0], layer.bias, self._dtype)

        def pixelwise(hidden: Tensor, more: Tensor) -> Tensor:
            pixels, others = (part.permute(0, 2, 3, 1).flatten(0, 2) for part in (hidden, more))
            _, _, height, width = hidden.shape
            return linear.plus(pixels, others).view(1, height, width, -1).permute(0, 3, 1, 2)

        return pixelwise

    def _upsampler(self, layer: Any) -> _Sliced:
        """Each pixel twice in both directions, then a convolution of 3 x 3: together one of 2 x 2, of half the work."""
        channels, bias = len(layer.bias), layer.bias.to(self._dtype).repeat(2)
        upper, lower = (convolution_of(half, bias) for half in _before_doubling(layer.weight).to(self._dtype).chunk(2))

        def upsampler(hidden: Tensor) -> Slices:
            yield from pause_before(hidden)
            _, _, height, width = hidden.shape
            doubled = hidden.new_empty(height, 2, 2 * width * channels)
            # Of each corner at which four pixels meet, the two pixels of the result above it, and those below. A row of
            # corners is a row of the result, and a pixel more at either end.
            for row, convolution, rows in ((1, upper, slice(1, None)), (0, lower, slice(height))):
                corners = convolution(hidden).permute(0, 2, 3, 1).reshape(height + 1, -1)
                doubled[:, row] = corners[rows, channels:-channels]
            return doubled.view(1, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)

        return upsampler

    def _activation(self, norm: nn.GroupNorm) -> _Layer:
        """The norm, then SiLU."""
        zeros, ones = torch.zeros(norm.num_channels), torch.ones(norm.num_channels)

        def activation(hidden: Tensor) -> Tensor:
            _, channels, height, width = hidden.shape
            flat = hidden.permute(0, 2, 3, 1).reshape(-1)
            if hidden.dtype is torch.float32:
                mean, variance = (number.expand(channels).contiguous() for number in _moments(flat))
                normed = functional.batch_norm(hidden, mean, variance, norm.weight, norm.bias, False, 0.0, norm.eps)
            else:
                flat = functional.layer_norm(flat, (flat.numel(),), None, None, norm.eps)
                normed = flat.view(1, height, width, channels).permute(0, 3, 1, 2)
                normed = functional.batch_norm(normed, zeros, ones, norm.weight, norm.bias, False, 0.0, _NONE)
            return functional.silu(normed, inplace=True)

        return activation


def _before_doubling(weight: Tensor) -> Tensor:
    """The convolution of 2 x 2 at the corners of pixels that does what one of 3 x 3 does once each was doubled.

    Weights that meet the same pixel are added.

    Args:
        weight: (channels of the result, of the input, 3, 3).

    Returns:
        (4 x channels of the result, of the input, 2, 2): one after the other for the doubled pixel at the upper left of
        the corner, at its upper right, lower left and lower right.
    """
    # For a doubled pixel right before a corner, two of three weights meet the pixel before it, and one the next.
    sides = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]])
    return torch.einsum("oiyx,avy,bhx->aboivh", weight, sides, sides).flatten(0, 2)


def _moments(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (numbers,), float32, in a fifth of the time of `torch.var_mean`.

    Piece by piece: each is read from memory once, and no sum is long enough to lose digits.
    """
    pieces = numbers.split(_PIECE)  # type: ignore[no-untyped-call]
    sums = torch.stack([torch.stack((piece.sum(), torch.dot(piece, piece))) for piece in pieces])
    mean, square = sums.sum(dim=0) / numbers.numel()
    return mean, square - mean * mean
