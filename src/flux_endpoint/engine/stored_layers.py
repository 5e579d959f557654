"""Layers whose weights stay as the file has them, and are made plain each time they are used."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from flux_endpoint.engine.layout import CheckedComponent
from flux_endpoint.engine.memory_plan import ComponentSize
from flux_endpoint.engine.original_layout import OriginalTensor, moves_rows, split_original
from flux_endpoint.engine.stored import StoredTensor, TensorReader

# torch's own allocations on the CPU start at multiples of this.
ALIGNMENT_BYTES: Final = 64
_PLAIN_NAMES: Final = {torch.float32: "F32", torch.bfloat16: "BF16"}
_BLOCK: Final = re.compile(r"(?:single_)?transformer_blocks\.\d+\.")
# One at work, the next one on its way.
_BLOCKS_ON_THE_DEVICE: Final = 2


class StoredLinear(nn.Module):
    """Computes what `nn.Linear` would with the plain weight, to the last bit.

    Args:
        packed: what the file has of the weight: numbers, and scales or tables beside them.
        unpack: makes plain numbers of these.
        shape: of the weight.
        dtype: of the weight when it is used.
        bias: its own parameter, which is plain.
    """

    # transformers looks at it before it chooses how to compute; there is none.
    weight = None

    def __init__(
        self,
        packed: tuple[Tensor, ...],
        unpack: Callable[..., Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        bias: nn.Parameter | None,
    ) -> None:
        super().__init__()
        for number, tensor in enumerate(packed):
            self.register_buffer(f"packed_{number}", tensor, persistent=False)
        self._unpack = unpack
        self.weight_shape = shape
        self._dtype = dtype
        self.bias = bias

    def plain_weight(self) -> Tensor:
        """The weight, made anew, of the shape and dtype it is computed with."""
        weight = self._unpack(*self.buffers()).to(self._dtype).reshape(self.weight_shape)
        # Mapped files start at any address, which changes the last bits of a product in float32.
        needs_copy = weight.data_ptr() % ALIGNMENT_BYTES and self._dtype == torch.float32
        return weight.clone() if needs_copy else weight

    def forward(self, numbers: Tensor) -> Tensor:
        """The product with the plain weight, plus the bias."""
        return functional.linear(numbers, self.plain_weight(), self.bias)


def keep_stored(
    checked: CheckedComponent, module: nn.Module, device: torch.device, dtype: torch.dtype, home: torch.device
) -> frozenset[str]:
    """Replace the linear layers of a component, with memory or without, by such that keep the file's numbers.

    Args:
        checked: the component in its files.
        module: what is changed.
        device: where the model works.
        dtype: that it computes in.
        home: where the numbers are; on the CPU they stay in mapped files.

    Returns:
        Names of the tensors in the files that need not be read any more.

    Raises:
        CheckpointError: a number is NaN or infinite.
    """
    reader = TensorReader(home)
    kept = kept_names(checked, module, device, dtype)
    for name in kept:
        stored, layout = checked.tensors[name], checked.layout[name]
        packed = stored.read_packed(reader)
        stored.check_finite(stored.unpack(*packed).to(dtype))
        for (part, rows), pieces in _cut(name, packed, layout).items():
            path, _, _ = part.rpartition(".")
            parent, _, leaf = path.rpartition(".")
            linear = module.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            layer = StoredLinear(pieces, stored.unpack, (rows, layout.shape[1]), dtype, linear.bias)
            setattr(module.get_submodule(parent), leaf, layer)
    return kept


def size_of(checked: CheckedComponent, device: torch.device, dtype: torch.dtype) -> ComponentSize:
    """What a component takes, by its headers."""
    kept = kept_names(checked, checked.module, device, dtype)
    is_mapped = device.type == "cpu"
    plain = {name: tensor.parameters * dtype.itemsize for name, tensor in checked.tensors.items()}
    stored = dict(plain)
    for name, tensor in checked.tensors.items():
        if name in kept:
            stored[name] = 0 if is_mapped else tensor.size_bytes
        elif is_mapped and dtype == torch.bfloat16 and _is_plain(tensor, dtype):
            stored[name] = 0
    return ComponentSize(sum(plain.values()), sum(stored.values()), _streamed_bytes(checked.layout, stored))


def kept_names(
    checked: CheckedComponent, module: nn.Module, device: torch.device, dtype: torch.dtype
) -> frozenset[str]:
    """Which tensors of the files stay as they are: weights of linear layers that are smaller so, or only mapped."""
    return frozenset(
        name
        for name, layout in checked.layout.items()
        if _is_worth_keeping(checked.tensors[name], device, dtype)
        and _can_be_cut(name, checked.tensors[name], layout)
        and all(_is_linear_weight(module, part) for part, _ in layout.parts)
    )


def _is_worth_keeping(stored: StoredTensor, device: torch.device, dtype: torch.dtype) -> bool:
    if stored.is_merged:
        return False
    if device.type == "cpu":
        # Plain numbers in bfloat16 are used where they are mapped; those in float32 must be aligned first.
        return dtype == torch.float32 or not _is_plain(stored, dtype)
    return stored.size_bytes < stored.parameters * dtype.itemsize


def _is_plain(stored: StoredTensor, dtype: torch.dtype) -> bool:
    return not stored.way and not stored.is_merged and stored.headers[0].dtype == _PLAIN_NAMES[dtype]


def _can_be_cut(name: str, stored: StoredTensor, layout: OriginalTensor) -> bool:
    """Whether rows of the weight are rows of all that is stored for it, or nothing has to be cut."""
    if not moves_rows(name, layout):
        return True
    rows = layout.shape[0]
    return all(header.parameters == 1 or header.shape[:1] == (rows,) for header in stored.headers)


def _is_linear_weight(module: nn.Module, part: str) -> bool:
    path, _, kind = part.rpartition(".")
    return kind == "weight" and isinstance(module.get_submodule(path), nn.Linear)


def _cut(name: str, packed: tuple[Tensor, ...], layout: OriginalTensor) -> Mapping[tuple[str, int], tuple[Tensor, ...]]:
    if not moves_rows(name, layout):
        return {layout.parts[0]: packed}
    cut = [
        dict.fromkeys((part for part, _ in layout.parts), tensor)
        if tensor.numel() == 1
        else split_original(name, tensor, layout)
        for tensor in packed
    ]
    return {(part, rows): tuple(pieces[part] for pieces in cut) for part, rows in layout.parts}


def _streamed_bytes(layouts: Mapping[str, OriginalTensor], sizes: Mapping[str, int]) -> int:
    """Of the largest blocks, and of what lies outside of them and stays; text encoders have layers as blocks."""
    blocks: dict[str, int] = {}
    outside = 0
    for name, layout in layouts.items():
        block = _BLOCK.match(layout.parts[0][0])
        if block:
            blocks[block[0]] = blocks.get(block[0], 0) + sizes[name]
        else:
            outside += sizes[name]
    if not blocks:
        return _BLOCKS_ON_THE_DEVICE * max(sizes.values())
    return min(_BLOCKS_ON_THE_DEVICE * max(blocks.values()), sum(blocks.values())) + outside
