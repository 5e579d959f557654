"""Linear layers for many rows: torch's own, packed for oneDNN where torch has that, and one that adds in float32."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Rows that the packing is chosen for; others work as well. The embedded model has 320 tokens at 1024x1024.
_ROWS = 320


class Layer(nn.Module):
    """`x @ weight.T + bias`, and what often follows it, in one call: a subclass says how, in `forward`.

    Rows are (rows, columns of the input), results (rows, columns of the result).
    """

    def gelu(self, rows: Tensor) -> Tensor:
        """The product through GELU in its tanh form."""
        return functional.gelu(self(rows), approximate="tanh")

    def plus(self, rows: Tensor, more: Tensor) -> Tensor:
        """The product plus another tensor of the result's shape."""
        total: Tensor = self(rows) + more
        return total


# Makes a layer of a weight, (columns of the result, columns of the input), and a bias or None.
MakeLayer = Callable[[Tensor, Tensor | None], Layer]


class Linear(Layer):
    """Torch's own product.

    On the CPU oneDNN is given its own layout of the weight once instead of at every call, and adds the activation or
    another tensor while it writes. Torch uses these operators itself when it compiles, but has no public name for them.

    Args:
        weight: (columns of the result, columns of the input); used where it is unless packed or cast.
        bias: (columns of the result,), or None.
        dtype: to compute in.
        is_packed: whether oneDNN packs it; None where it can.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, *, is_packed: bool | None = None
    ) -> None:
        super().__init__()
        self._is_packed = can_pack(weight.device, dtype) if is_packed is None else is_packed
        weight = weight.to(dtype)
        if self._is_packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(dtype), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """The product plus the bias."""
        if self._is_packed:
            return self._pointwise(rows, "none", "")
        return functional.linear(rows, self.weight, self.bias)

    def gelu(self, rows: Tensor) -> Tensor:
        """The product through GELU in its tanh form."""
        return self._pointwise(rows, "gelu", "tanh") if self._is_packed else super().gelu(rows)

    def plus(self, rows: Tensor, more: Tensor) -> Tensor:
        """The product plus another tensor of the result's shape."""
        if self._is_packed:
            total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, more, self.weight, self.bias, "add")
            return total
        if self.bias is None:
            return torch.addmm(more, rows, self.weight.t())
        return super().plus(rows, more)

    def _pointwise(self, rows: Tensor, activation: str, algorithm: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, activation, [], algorithm)
        return result


class Float32Linear(Layer):
    """Adds in float32 whatever the weight is in, and keeps it as it is: slow, and what other layers are judged by."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """The product plus the bias, float32."""
        return functional.linear(rows.float(), self.weight.float(), None if self.bias is None else self.bias.float())


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN's packed layers for a device and a type of numbers.

    On processors without AVX-512 torch's own bfloat16 products work, and oneDNN refuses to pack the weight.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fast_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it and oneDNN may use that, else float32."""
    can = torch.cpu.get_capabilities()
    has_products = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    # An operator may have told oneDNN to use less than the processor has.
    cpu = torch.device("cpu")
    is_allowed = can_pack(cpu, torch.bfloat16) or not can_pack(cpu, torch.float32)
    return torch.bfloat16 if has_products and is_allowed else torch.float32
