"""Reads a LoRA file into what it adds to the layers of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.lora.changes import Change, Kronecker, LowRank, Whole
from flux_endpoint.engine.stored_layers import StoredLinear
from flux_endpoint.engine.trouble import reading
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_outline import Form, LoraLayer, outline

_FIRST: Final = "x_embedder"
_LAST: Final = "proj_out"


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One LoRA in memory.

    Attributes:
        changes: by the component and the name of the layer that is changed.
        size_bytes: of its tensors.
    """

    changes: Mapping[tuple[Tower, str], Change]
    size_bytes: int


def read_adapter(file: Path, towers: Mapping[Tower, nn.Module], device: torch.device, dtype: torch.dtype) -> Adapter:
    """Read a LoRA file onto a device.

    Args:
        file: in any layout.
        towers: the components of the model that it is for.
        device: where it works.
        dtype: of its numbers there.

    Raises:
        CheckpointError: see `outline`; or a number is NaN or infinite, or the model has other layers.
    """
    layers = outline(file)
    changes: dict[tuple[Tower, str], Change] = {}
    with reading(file), safe_open(file, framework="pt", device="cpu") as stream:
        for layer in layers:
            _require_fit(file, layer, towers[layer.layer.tower])
            tensors = {role: _read(file, stream, name) for role, name in layer.tensors.items() if role != "alpha"}
            for module, change in _changes(layer, tensors).items():
                columns = linear_size(towers[layer.layer.tower].get_submodule(module))[1]
                changes[layer.layer.tower, module] = _moved(_widened(change, columns), device, dtype)
    size = sum(tensor.nbytes for change in changes.values() for tensor in change.tensors)
    return Adapter(changes, size)


def _require_fit(file: Path, layer: LoraLayer, tower: nn.Module) -> None:
    for module, first, end in layer.parts():
        try:
            linear = tower.get_submodule(module)
        except AttributeError:
            raise CheckpointError(f"{file.name} is made for another model: this one has no layer {module}") from None
        size = end - first, layer.columns
        expected = linear_size(linear)
        if size != expected and not _is_of_dev(layer, size, tower):
            raise CheckpointError(
                f"{file.name} is made for another model: its {layer.name} changes {size[0]} x {size[1]} numbers of "
                f"{module}, which has {expected[0]} x {expected[1]} here"
            )


def _is_of_dev(layer: LoraLayer, size: tuple[int, int], tower: nn.Module) -> bool:
    """Whether a change of the first layer is of the numbers that are drawn alone.

    Fill reads more for each token, behind those that dev reads: a LoRA of dev changes the first ones, as in diffusers.
    """
    if layer.layer.modules != (_FIRST,) or layer.form is Form.LOKR:
        return False
    rows, _ = linear_size(tower.get_submodule(_FIRST))
    drawn, _ = linear_size(tower.get_submodule(_LAST))
    return size == (rows, drawn)


def linear_size(linear: nn.Module) -> tuple[int, int]:
    """Rows and columns of the weight of a linear layer, plain or stored."""
    if isinstance(linear, StoredLinear):
        return linear.weight_shape[0], linear.weight_shape[1]
    weight: Any = linear.weight
    return int(weight.shape[0]), int(weight.shape[1])


def _read(file: Path, stream: Any, name: str) -> Tensor:
    # In float32 whatever the file has: factors are multiplied in before anything is rounded.
    tensor: Tensor = stream.get_tensor(name).float()
    if not tensor.isfinite().all():
        raise CheckpointError(f"{file.name} is damaged: {name} holds numbers that are NaN or infinite")
    return tensor.flatten(1)


def _changes(layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    """The change of each module that a layer of a file means, in float32."""
    match layer.form:
        case Form.LORA:
            down, up = tensors["down"], tensors["up"] * layer.factor
        case Form.LOHA:
            # Element by element, the product of two products is one product of higher rank.
            up = _by_rows(tensors["w1_a"], tensors["w2_a"]) * layer.factor
            down = _by_rows(tensors["w1_b"].t(), tensors["w2_b"].t()).t()
        case Form.LOKR:
            return _kronecker(layer, tensors)
    if layer.layer.is_swapped:
        up = torch.cat(up.chunk(2)[::-1])
    return {module: LowRank(down, up[first:end]) for module, first, end in layer.parts()}


def _by_rows(one: Tensor, two: Tensor) -> Tensor:
    """(rows, r) and (rows, s) to (rows, r * s): all products of numbers of the same row."""
    return (one[:, :, None] * two[:, None, :]).flatten(1)


def _kronecker(layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    first, second = (
        tensors[one] if one in tensors else tensors[f"{one}_a"] @ tensors[f"{one}_b"] for one in ("w1", "w2")
    )
    second = second * layer.factor
    if layer.layer.is_swapped:
        return {layer.layer.modules[0]: Whole(torch.cat(torch.kron(first, second).chunk(2)[::-1]))}
    block, changes = second.shape[0], dict[str, Change]()
    for module, start, end in layer.parts():
        if start % block or end % block:
            changes[module] = Whole(torch.kron(first, second)[start:end])
        else:
            changes[module] = Kronecker(first[start // block : end // block], second)
    return changes


def _widened(change: Change, columns: int) -> Change:
    """A change of the first numbers that a layer reads, as one of all."""
    if not isinstance(change, LowRank) or change.down.shape[1] == columns:
        return change
    return LowRank(functional.pad(change.down, (0, columns - change.down.shape[1])), change.up)


def _moved(change: Change, device: torch.device, dtype: torch.dtype) -> Change:
    # Contiguous: a slice would keep the whole in memory, and be multiplied by another kernel.
    return type(change)(*(tensor.to(device, dtype).contiguous() for tensor in change.tensors))
