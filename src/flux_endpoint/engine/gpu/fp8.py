"""Products in 8-bit floating point: half the bytes and twice the speed of bfloat16 on cards that multiply them."""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from flux_endpoint.engine.linear import Layer
from flux_endpoint.engine.probe import distance

FP8: Final = torch.float8_e4m3fn
_LARGEST: Final = torch.finfo(FP8).max
# A row of zeros is divided by it.
_SMALLEST_ROW: Final = 1e-12
# Both sides of a product must be multiples of it.
_MULTIPLE: Final = 16
# What sums with few digits and rounding the result to bfloat16 may bring about.
_FARTHEST: Final = 2e-2
_CHECKED_ROWS: Final = 256

# (rows, k) and (k, columns) in fp8, their scales (rows, 1) and (1, columns), and a bias, to (rows, columns), bfloat16.
Product = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Fp8Linear(Layer):
    """A linear layer whose numbers are rounded to fp8, each row by a scale of its own, the input's anew each time.

    A scale for each row and not one for all: no row suffers from large numbers in another one, and what a token
    becomes does not depend on others.

    Args:
        weight: (columns of the result, columns of the input), bfloat16; it is copied.
        bias: (columns of the result,), or None.
        product: of the device.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, product: Product) -> None:
        super().__init__()
        numbers, scales = quantise_rows(weight)
        self.register_buffer("weight", numbers, persistent=False)
        self.register_buffer("scales", scales.t().contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self._product = product

    def forward(self, rows: Tensor) -> Tensor:
        """The product plus the bias, bfloat16."""
        numbers, scales = quantise_rows(rows)
        return self._product(numbers, self.weight.t(), scales, self.scales, self.bias)

    @torch.inference_mode()
    def check(self) -> None:
        """Compare the device's product with the same numbers multiplied in float32.

        Raises:
            ValueError: they are too far apart.
        """
        random = torch.Generator().manual_seed(0)
        columns = self.weight.shape[1]
        rows = torch.randn(_CHECKED_ROWS, columns, generator=random).to(self.weight.device, torch.bfloat16)
        numbers, scales = quantise_rows(rows)
        expected = plain_product(numbers, self.weight.t(), scales, self.scales, self.bias)
        off = distance(self(rows), expected)
        if off > _FARTHEST:
            raise ValueError(f"products in fp8 with {columns} columns are {off:.0e} off here")


def can_be_fp8(weight: Tensor) -> bool:
    """Whether the products of cards take a weight of this shape."""
    return all(side % _MULTIPLE == 0 for side in weight.shape)


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to fp8 by its own scale.

    Args:
        rows: (rows, columns), any floating dtype.

    Returns:
        The numbers in fp8, at most a sixteenth off but for those near zero, and the scales, (rows, 1), float32, that
        they are to be multiplied with.
    """
    highest = rows.abs().amax(dim=1, keepdim=True).float().clamp(min=_SMALLEST_ROW)
    scales = highest / _LARGEST
    # Division may round up beyond the largest number, which becomes NaN.
    return (rows.float() / scales).clamp(-_LARGEST, _LARGEST).to(FP8), scales


def device_product(
    rows: Tensor, weight: Tensor, row_scales: Tensor, weight_scales: Tensor, bias: Tensor | None
) -> Tensor:
    """The product that torch has for the device; shapes as in `Product`."""
    return torch._scaled_mm(
        rows, weight, row_scales, weight_scales, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def product_that_adds(product: Product, weight: Tensor, bias: Tensor) -> Product:
    """A product that adds a bias, too: the device's own, or where that cannot one that does so afterwards.

    Args:
        product: of the device.
        weight: of a layer it is tried with, see `Fp8Linear`.
        bias: of that layer.
    """
    try:
        Fp8Linear(weight, bias, product).check()
    except (RuntimeError, ValueError):
        return partial(_adding_afterwards, product)
    return product


def _adding_afterwards(
    product: Product, rows: Tensor, weight: Tensor, row_scales: Tensor, weight_scales: Tensor, bias: Tensor | None
) -> Tensor:
    result = product(rows, weight, row_scales, weight_scales, None)
    return result if bias is None else result + bias


def plain_product(
    rows: Tensor, weight: Tensor, row_scales: Tensor, weight_scales: Tensor, bias: Tensor | None
) -> Tensor:
    """What `device_product` should give, multiplied in float32."""
    result = (rows.float() @ weight.float()) * row_scales * weight_scales
    return (result if bias is None else result + bias.float()).to(torch.bfloat16)
