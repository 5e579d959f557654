"""The header of a safetensors file, and single numbers of it, read by hand: a gateway has no library for it."""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from flux_endpoint.core.errors import CheckpointError

Shape = tuple[int, ...]

# The format's own limit; a larger number at the start means that the file is something else.
_MAX_HEADER_BYTES: Final = 100_000_000
_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_BITS: Final = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8} | {
    "U8": 8,
    "I8": 8,
}
# How Python's struct calls them; bfloat16 is the first half of a float32.
_NUMBERS: Final = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "U8": "B", "I8": "b"}
_OTHER_FORMATS: Final = (
    (b"version https://git-lfs", "the pointer that a clone without git-lfs leaves"),
    (b"<", "a web page: the download went wrong"),
    (b"PK", "a PyTorch file"),
    (b"\x80", "a PyTorch file"),
)


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file.

    Attributes:
        dtype: as safetensors writes it: F32, BF16, F8_E4M3... or as GGUF does: Q4_K.
        shape: of the numbers, outermost first; GGUF writes it the other way round.
        size_bytes: in the file.
        file: which holds it.
        name: its own in the file.
    """

    dtype: str
    shape: Shape
    size_bytes: int
    file: Path
    name: str

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a safetensors file says it holds.

    Attributes:
        tensors: by name.
        metadata: texts of whoever wrote the file.
        begins: where in the file the bytes of each tensor begin.
    """

    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]
    begins: Mapping[str, int]

    def number(self, name: str) -> float:
        """The value of a tensor that holds one number.

        Raises:
            CheckpointError: it holds more than one, or none that Python knows, or the file is gone.
        """
        tensor = self.tensors[name]
        if tensor.parameters != 1 or tensor.dtype not in (*_NUMBERS, "BF16"):
            raise CheckpointError(f"{tensor.file}: {name} must be one number")
        try:
            with tensor.file.open("rb") as stream:
                stream.seek(self.begins[name])
                data = stream.read(tensor.size_bytes)
        except OSError as error:
            raise CheckpointError(f"cannot read {tensor.file}: {error.strerror}") from error
        if tensor.dtype == "BF16":
            return float(struct.unpack("<f", b"\0\0" + data)[0])
        return float(struct.unpack("<" + _NUMBERS[tensor.dtype], data)[0])


def read_safetensors(file: Path) -> SafetensorsHeader:
    """What a safetensors file says it holds.

    Raises:
        CheckpointError: the file cannot be read, is of another format, or is shorter than it says.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            text = stream.read(length) if length <= min(size, _MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    try:
        header = json.loads(text)
        spans = dict(_spans(header))
        tensors = {
            name: TensorHeader(str(header[name]["dtype"]), tuple(header[name]["shape"]), end - begin, file, name)
            for name, (begin, end) in spans.items()
        }
        metadata = {str(name): str(value) for name, value in header.get(_METADATA, {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} {_what_instead(file)}") from None
    _check_spans(tensors, spans, file)
    start = _LENGTH_BYTES + length
    expected = start + max((end for _, end in spans.values()), default=0)
    if size != expected:
        raise CheckpointError(
            f"{file} is damaged or not fully downloaded: it has {size} bytes and its header speaks of {expected}"
        )
    return SafetensorsHeader(tensors, metadata, {name: start + begin for name, (begin, _) in spans.items()})


def _spans(header: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, entry in header.items():
        if name != _METADATA:
            begin, end = entry["data_offsets"]
            if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *entry["shape"])):
                raise ValueError("no sizes")
            yield name, (begin, end)


def _check_spans(tensors: Mapping[str, TensorHeader], spans: Mapping[str, tuple[int, int]], file: Path) -> None:
    """Refuse headers whose sizes add up and whose tensors would still be read from wrong places."""
    reached = 0
    for name in sorted(spans, key=lambda name: spans[name]):
        tensor, (begin, end) = tensors[name], spans[name]
        if end < begin or (tensor.dtype in _BITS and 8 * (end - begin) != _BITS[tensor.dtype] * tensor.parameters):
            raise CheckpointError(f"{file} has a damaged header: the bytes of {name} do not match its shape")
        if begin != reached:
            fault = "tensors overlap" if begin < reached else "there are gaps between tensors"
            raise CheckpointError(f"{file} has a damaged header: {fault} (at {name})")
        reached = end


def _what_instead(file: Path) -> str:
    """What a file without a valid header is; many things are called .safetensors."""
    with file.open("rb") as stream:
        start = stream.read(64)
    for mark, kind in _OTHER_FORMATS:
        if start.lstrip().startswith(mark):
            return f"is {kind}, not a safetensors or GGUF file"
    return "is damaged: it has no valid safetensors header"
