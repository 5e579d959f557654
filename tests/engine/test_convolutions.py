"""Convolutions of few channels: the bits of the plain ones, however they are computed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.convolutions import convolution_of, fastest_equal

SIZES = ((64, 64), (5, 64), (80, 66), (65, 67), (40, 512))


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "read"), [(8, 8), (8, 16), (3, 8), (16, 16)])
def test_few_channels_have_the_bits_of_the_plain_convolution_at_every_size(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, channels: int, read: int
) -> None:
    # Each way takes less time than the one before: the last one is chosen if it is equal.
    times = iter(range(10, 0, -1))
    monkeypatch.setattr("flux_endpoint.engine.convolutions.seconds_of", lambda *_: next(times) ** 3)
    weight, bias = numbers(channels, read, 3, 3).to(dtype), numbers(channels).to(dtype)
    convolution = convolution_of(weight, bias)
    for size in SIZES:
        hidden = numbers(1, read, *size).to(dtype, memory_format=torch.channels_last)
        kernel = weight.contiguous(memory_format=torch.channels_last)
        result = convolution(hidden)
        assert torch.equal(result, functional.conv2d(hidden, kernel, bias, padding=1))
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_what_is_not_equal_or_not_clearly_faster_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def way(seconds: float, more: float) -> Callable[[Tensor], Tensor]:
        def run(hidden: Tensor) -> Tensor:
            taken.append(seconds)
            return hidden + more

        return run

    def seconds_of(run: Callable[[], object], _: torch.device) -> float:
        run()
        return taken[-1]

    taken: list[float] = []
    monkeypatch.setattr("flux_endpoint.engine.convolutions.seconds_of", seconds_of)
    plain, equal, other, scarcely = way(1.0, 0), way(0.8, 0), way(0.1, 1e-3), way(0.95, 0)
    weight = torch.ones(2, 2, 3, 3)
    assert fastest_equal(plain, [other, scarcely, equal], weight) is equal
    assert fastest_equal(plain, [other, scarcely], weight) is plain
