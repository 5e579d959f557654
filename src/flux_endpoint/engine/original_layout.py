"""The names Black Forest Labs' own files give to the transformer's tensors, beside those of diffusers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flux_endpoint.files.original_names import SWAPPED, original_name
from flux_endpoint.files.safetensors_header import Shape


@dataclass(frozen=True, slots=True)
class OriginalTensor:
    """One tensor of an original file.

    Attributes:
        shape: what it must be.
        parts: names of diffusers and their numbers of rows, from the first row down.
    """

    shape: Shape
    parts: tuple[tuple[str, int], ...]


def is_original(name: str) -> bool:
    """Whether only the original layout has such a name, which is without prefix."""
    return name.startswith(("double_blocks.", "single_blocks.", "img_in.", "guidance_in."))


def original_tensors(expected: Mapping[str, Shape]) -> dict[str, OriginalTensor]:
    """What an original file of the same model must hold.

    Args:
        expected: names and shapes of diffusers' transformer.
    """
    stacked: dict[str, dict[int, tuple[str, Shape]]] = {}
    for name, shape in expected.items():
        original, place = original_name(name)
        stacked.setdefault(original, {})[place] = (name, shape)
    tensors = {}
    for original, by_place in stacked.items():
        parts = [by_place[place] for place in sorted(by_place)]
        rows = sum(shape[0] for _, shape in parts)
        columns = parts[0][1][1:]
        tensors[original] = OriginalTensor((rows, *columns), tuple((name, shape[0]) for name, shape in parts))
    return tensors


def split_original(name: str, tensor: Tensor, layout: OriginalTensor) -> dict[str, Tensor]:
    """Cut one original tensor into those of diffusers.

    Args:
        name: original name, without prefix.
        tensor: of shape `layout.shape`.
        layout: from `original_tensors`.

    Returns:
        Names and tensors of diffusers; views where nothing has to move.
    """
    if name.startswith(f"{SWAPPED}."):
        tensor = torch.cat(tensor.chunk(2)[::-1])
    pieces = torch.split(tensor, [rows for _, rows in layout.parts])
    return {part: piece for (part, _), piece in zip(layout.parts, pieces, strict=True)}


def join_original(name: str, parts: Mapping[str, Tensor], layout: OriginalTensor) -> Tensor:
    """Undo `split_original`."""
    tensor = (
        torch.cat([parts[part] for part, _ in layout.parts]) if len(layout.parts) > 1 else parts[layout.parts[0][0]]
    )
    return torch.cat(tensor.chunk(2)[::-1]) if name.startswith(f"{SWAPPED}.") else tensor


def moves_rows(name: str, layout: OriginalTensor) -> bool:
    """Whether `split_original` cuts a tensor or changes the order of its rows."""
    return len(layout.parts) > 1 or name.startswith(f"{SWAPPED}.")
