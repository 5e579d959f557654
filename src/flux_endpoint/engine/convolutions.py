"""Convolutions of 3 x 3 in channels-last; where they have few channels, of several pixels at once."""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.probe import seconds_of

# Numbers that a processor with AVX-512 multiplies at once: oneDNN computes so many channels, needed or not.
_LANES: Final = 16
# Pixels that may be computed at once.
_AT_ONCE: Final = (2, 4)
_CLEARLY: Final = 0.9
# For smaller maps torch computes float32 by kernels of its own, in another order.
_FEWEST_PIXELS: Final = 64 * 64
# Maps that ways are compared on, (height, width): the first also for their time.
_CHECKED: Final = ((32, 512), (64, 64))


def convolution_of(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """A convolution over maps in channels-last, with a border of zeros.

    Args:
        weight: (channels of the result, of the input, 3, 3), or of 2 x 2 for one at every corner of a pixel, at the
            edges, too.
        bias: (channels of the result,), of the same dtype.
    """
    plain = _plain(weight, bias)
    if weight.shape[2:] != (3, 3) or len(weight) > _LANES // 2:
        return plain
    ways = [_several_at_once(weight, bias, pixels) for pixels in _AT_ONCE if pixels * len(weight) <= _LANES]
    return fastest_equal(plain, ways, weight)


def fastest_equal(
    plain: Callable[[Tensor], Tensor], ways: list[Callable[[Tensor], Tensor]], weight: Tensor
) -> Callable[[Tensor], Tensor]:
    """The fastest of the ways that give the bits of the plain one: which one is chosen shows in times alone.

    Args:
        plain: taken unless another is clearly faster.
        ways: to do the same.
        weight: of the convolution.
    """
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, weight.shape[1], *size, generator=random) for size in _CHECKED]
    maps = [hidden.to(weight.dtype, memory_format=torch.channels_last) for hidden in maps]
    best, best_s = plain, _CLEARLY * seconds_of(partial(plain, maps[0]), weight.device)
    for way in ways:
        if all(torch.equal(way(hidden), plain(hidden)) for hidden in maps):
            seconds = seconds_of(partial(way, maps[0]), weight.device)
            if seconds < best_s:
                best, best_s = way, seconds
    return best


def _plain(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    kernel = weight.contiguous(memory_format=torch.channels_last)
    return lambda hidden: functional.conv2d(hidden, kernel, bias, padding=1)


def _several_at_once(weight: Tensor, bias: Tensor, pixels: int) -> Callable[[Tensor], Tensor]:
    """The same as a wider convolution that makes channels of neighbours in a row, and steps over them.

    Products with zero change no sum, and in channels-last the result lies as that of the plain one does.
    """
    channels, width = len(weight), weight.shape[3]
    kernel = weight.new_zeros(pixels, *weight.shape[:3], width + pixels - 1)
    for pixel in range(pixels):
        kernel[pixel, ..., pixel : pixel + width] = weight
    kernel = kernel.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    biases, plain = bias.repeat(pixels), _plain(weight, bias)

    def several(hidden: Tensor) -> Tensor:
        _, _, rows, columns = hidden.shape
        if columns % pixels or rows * columns < _FEWEST_PIXELS:
            return plain(hidden)
        result = functional.conv2d(hidden, kernel, biases, stride=(1, pixels), padding=1)
        return result.permute(0, 2, 3, 1).reshape(1, rows, columns, channels).permute(0, 3, 1, 2)

    return several
