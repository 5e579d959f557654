"""A linear layer for many rows: packed for oneDNN where torch has that, torch's own elsewhere."""

import torch
from torch import Tensor
from torch.nn import functional

# Rows that the packing is chosen for; others work as well. The embedded model has 320 tokens at 1024x1024.
_ROWS = 320


class Linear:
    """`x @ weight.T + bias`, and what often follows it, in one call.

    On the CPU oneDNN is given its own layout of the weight once instead of at every call, and adds the activation or
    another tensor while it writes. Torch uses these operators itself when it compiles, but has no public name for them.

    Args:
        weight: (columns of the result, columns of the input).
        bias: (columns of the result,), or None.
        dtype: to compute in.
        is_packed: whether oneDNN packs it; None where it can.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, *, is_packed: bool | None = None
    ) -> None:
        self._weight = weight.to(dtype).contiguous()
        self._bias = None if bias is None else bias.to(dtype).contiguous()
        self._is_packed = can_pack(weight.device) if is_packed is None else is_packed
        if self._is_packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, columns of the input) to (rows, columns of the result)."""
        if self._is_packed:
            return self._pointwise(rows, "none", "")
        return functional.linear(rows, self._weight, self._bias)

    def gelu(self, rows: Tensor) -> Tensor:
        """The same through GELU in its tanh form."""
        if self._is_packed:
            return self._pointwise(rows, "gelu", "tanh")
        return functional.gelu(self(rows), approximate="tanh")

    def plus(self, rows: Tensor, more: Tensor) -> Tensor:
        """The same plus another tensor of the result's shape."""
        if self._is_packed:
            total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, more, self._weight, self._bias, "add")
            return total
        return self(rows) + more

    def _pointwise(self, rows: Tensor, activation: str, algorithm: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, activation, [], algorithm)
        return result


def can_pack(device: torch.device) -> bool:
    """Whether torch has oneDNN's packed layers for a device."""
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def fast_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it and oneDNN may use that, else float32."""
    can = torch.cpu.get_capabilities()
    has_products = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    # An operator may have told oneDNN to use less than the processor has.
    is_allowed = not can_pack(torch.device("cpu")) or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_products and is_allowed else torch.float32
