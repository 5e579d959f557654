"""Merges a control LoRA into the weights of FLUX.1 dev while they are read: the result is a Canny or Depth model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.original_layout import OriginalTensor, join_original, split_original
from flux_endpoint.engine.stored import StoredTensor
from flux_endpoint.files.control_lora import FIRST, ControlLora
from flux_endpoint.files.original_names import original_name
from flux_endpoint.files.safetensors_header import Shape, TensorHeader

_MERGED_INTO: Final = frozenset({"F32", "F16", "BF16"})
_FIRST_WEIGHT: Final = f"{FIRST}.weight"


@dataclass(frozen=True, slots=True)
class _Addition:
    """What is added to one tensor of diffusers.

    Attributes:
        headers: down and up of a weight, or what is added to a bias.
        begin: its first row in the last of them.
        end: the one after its last row.
        factor: what it is multiplied with.
        is_swapped: whether the halves of the rows change places first.
    """

    headers: tuple[TensorHeader, ...]
    begin: int
    end: int
    factor: float
    is_swapped: bool

    @property
    def shape(self) -> Shape:
        """The shape of what is added."""
        rows = self.end - self.begin
        return (rows,) if len(self.headers) == 1 else (rows, self.headers[0].shape[1])

    def numbers(self, read: tuple[Tensor, ...]) -> Tensor:
        """What is added, in float32.

        Args:
            read: of the headers.
        """
        *down, up = (_checked(header, tensor) for header, tensor in zip(self.headers, read, strict=True))
        if self.is_swapped:
            up = torch.cat(up.chunk(2)[::-1])
        up = up[self.begin : self.end]
        return (up @ down[0] if down else up) * self.factor


def widened_config(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], lora: ControlLora) -> dict[str, Any]:
    """The config of a transformer of FLUX.1 dev, as that of one that reads a map beside each token.

    Args:
        config: of the transformer.
        tensors: of its files, in either naming.
        lora: that is to be merged into them.

    Raises:
        CheckpointError: the LoRA has no inputs for a map, or some for a model of another size.
    """
    first = next((tensors[name] for name in (original_name(_FIRST_WEIGHT)[0], _FIRST_WEIGHT) if name in tensors), None)
    if first is None or len(first.shape) != 2:
        raise CheckpointError(f"transformer lacks {_FIRST_WEIGHT}, which a control LoRA widens")
    drawn = first.shape[1]
    name = lora.file.name
    if lora.columns == drawn:
        raise CheckpointError(
            f"{name} is no control LoRA: it adds no inputs for a map; LoRAs that requests name lie in "
            "FLUX_ENDPOINT_LORA_DIR"
        )
    if lora.columns != 2 * drawn:
        raise CheckpointError(
            f"{name} is made for another model: it reads {lora.columns} numbers a token, "
            f"and this one reads {2 * drawn} with a map"
        )
    return {**config, "in_channels": lora.columns, "out_channels": config.get("out_channels") or drawn}


def merge_control(
    tensors: Mapping[str, StoredTensor], layout: Mapping[str, OriginalTensor], lora: ControlLora
) -> dict[str, StoredTensor]:
    """The tensors of a transformer with a control LoRA in them; they are read, and added up in float32, when loaded.

    A weight becomes weight + factor * up @ down, the first one with zeros for what it did not read before; biases
    likewise, and gains of normalisations are replaced, as in Black Forest Labs' own code (`flux/modules/lora.py`).

    Args:
        tensors: of dev's files, in either naming.
        layout: of the widened transformer.
        lora: whose `columns` fit the layout.

    Returns:
        Those that the LoRA does not change, as they are, and the others. Where the files lack one or have it in
        another shape it is left to `layout.compare` to say so.

    Raises:
        CheckpointError: it changes what the transformer has not, or has in another size, or a weight is packed.
    """
    additions = dict(_additions(lora))
    gains = {f"{module}.weight": lora.tensors[name] for module, name in lora.gains.items()}
    shapes = {part: (rows, *each.shape[1:]) for each in layout.values() for part, rows in each.parts}
    _require_fit(lora, shapes, {name: one.shape for name, one in additions.items()})
    _require_fit(lora, shapes, {name: header.shape for name, header in gains.items()})
    merged = dict(tensors)
    for name, each in layout.items():
        stored = tensors.get(name)
        here = {part: additions[part] for part, _ in each.parts if part in additions}
        if stored is None or not _has_shape(stored, each):
            continue
        if each.parts[0][0] in gains:
            merged[name] = StoredTensor(each.shape, (gains[each.parts[0][0]],), is_merged=True)
        elif here:
            _require_plain(name, stored, lora)
            headers = (*stored.headers, *(header for one in here.values() for header in one.headers))
            merged[name] = StoredTensor(
                each.shape, headers, combine=partial(_combine, name, each, here), is_merged=True
            )
    return merged


def _additions(lora: ControlLora) -> Iterator[tuple[str, _Addition]]:
    for layer in lora.layers:
        weight = tuple(lora.tensors[layer.tensors[role]] for role in ("down", "up"))
        bias = lora.biases.get(layer.name)
        for module, begin, end in layer.parts():
            swapped = layer.layer.is_swapped
            yield f"{module}.weight", _Addition(weight, begin, end, layer.factor, swapped)
            if bias is not None:
                yield f"{module}.bias", _Addition((lora.tensors[bias],), begin, end, layer.factor, swapped)


def _require_fit(lora: ControlLora, shapes: Mapping[str, Shape], changed: Mapping[str, Shape]) -> None:
    for name, shape in changed.items():
        if name not in shapes:
            raise CheckpointError(f"{lora.file.name} is made for another model: this one has no {name}")
        if shape != shapes[name]:
            raise CheckpointError(
                f"{lora.file.name} is made for another model: it changes {_by(shape)} numbers of {name}, "
                f"which has {_by(shapes[name])} here"
            )


def _has_shape(stored: StoredTensor, each: OriginalTensor) -> bool:
    if each.parts[0][0] == _FIRST_WEIGHT:
        return stored.shape == (each.shape[0], each.shape[1] // 2)
    return stored.shape == each.shape


def _require_plain(name: str, stored: StoredTensor, lora: ControlLora) -> None:
    kind = stored.way or stored.headers[0].dtype
    if kind not in _MERGED_INTO:
        raise CheckpointError(
            f"{lora.file.name} is merged into plain numbers, and {name} is stored as {kind}: take FLUX.1 dev in bf16, "
            "fp16 or fp32, or FLUX.1 Canny or Depth as a whole, which may be packed"
        )


def _combine(
    name: str, layout: OriginalTensor, additions: Mapping[str, _Addition], stored: Tensor, *read: Tensor
) -> Tensor:
    numbers = stored.float()
    if layout.parts[0][0] == _FIRST_WEIGHT:
        numbers = functional.pad(numbers, (0, layout.shape[1] - numbers.shape[1]))
    # Part by part, also where both files have them below each other: so the bits hang on no naming.
    parts = split_original(name, numbers, layout)
    for part, one in additions.items():
        taken, read = read[: len(one.headers)], read[len(one.headers) :]
        parts[part] = parts[part] + one.numbers(taken)
    return join_original(name, parts, layout)


def _checked(header: TensorHeader, tensor: Tensor) -> Tensor:
    numbers = tensor.float()
    if not numbers.isfinite().all():
        raise CheckpointError(f"{header.file}: {header.name} holds numbers that are NaN or infinite")
    # Some trainers write linear layers as convolutions of one pixel.
    return numbers.flatten(1) if numbers.ndim > 1 else numbers


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
