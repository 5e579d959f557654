"""What a safetensors file says it holds, read without touching the weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from flux_endpoint.core.errors import CheckpointError

# The format's own limit; a larger number at the start means that the file is something else.
_MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_OTHER_FORMATS = (
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "the pointer that a clone without git-lfs leaves"),
    (b"<", "a web page: the download went wrong"),
    (b"PK", "a PyTorch file"),
    (b"\x80", "a PyTorch file"),
)


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file.

    Attributes:
        dtype: as safetensors writes it: F32, BF16, F8_E4M3...
        size_bytes: in the file.
        file: which holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    file: Path

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of one safetensors file, by name.

    Raises:
        CheckpointError: the file cannot be read, is no safetensors file, or is shorter than it says.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            text = stream.read(length) if length <= min(size, _MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    try:
        tensors = _parse(json.loads(text), file)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} {_what_instead(file)}") from None
    expected = _LENGTH_BYTES + length + sum(tensor.size_bytes for tensor in tensors.values())
    if size != expected:
        raise CheckpointError(
            f"{file} is damaged or not fully downloaded: it has {size} bytes and its header speaks of {expected}"
        )
    return tensors


def _what_instead(file: Path) -> str:
    """What a file without a valid header is; many things are called .safetensors."""
    with file.open("rb") as stream:
        start = stream.read(64)
    for mark, kind in _OTHER_FORMATS:
        if start.lstrip().startswith(mark):
            return f"is {kind}, not a safetensors file"
    return "is damaged: it has no valid safetensors header"


def _parse(header: Mapping[str, Any], file: Path) -> dict[str, TensorHeader]:
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape)):
                raise ValueError("no sizes")
            tensors[name] = TensorHeader(str(entry["dtype"]), shape, end - begin, file)
    return tensors


def read_part_headers(folder: Path, stem: str) -> dict[str, TensorHeader]:
    """The tensors of one component of a checkpoint: a single file, or shards with an index.

    Args:
        folder: of the component.
        stem: file name without ending: `model` or `diffusion_pytorch_model`.

    Raises:
        CheckpointError: a file is missing or damaged, or the index names tensors that its files do not hold.
    """
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return read_header(single)
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        raise CheckpointError(f"{single} is missing (and so is {index.name})")
    return _read_shards(index)


def _read_shards(index: Path) -> dict[str, TensorHeader]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} is damaged: it has no weight_map")
    shards = sorted(set(weight_map.values()))
    absent = [shard for shard in shards if not (index.parent / shard).is_file()]
    if absent:
        raise CheckpointError(f"{index.parent} lacks {listing(absent)} of {len(shards)} files named by {index.name}")
    tensors: dict[str, TensorHeader] = {}
    for shard in shards:
        tensors |= read_header(index.parent / shard)
    unheld = [name for name, shard in weight_map.items() if name not in tensors or tensors[name].file.name != shard]
    if unheld:
        raise CheckpointError(f"{index} names tensors that its files do not hold: {listing(unheld)}")
    return tensors


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is damaged: it holds no JSON object")
    return content


def listing(names: list[str], shown: int = 3) -> str:
    """The first few of a list of names and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
