"""What a file of weights says it holds, read without touching the weights."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.trouble import reading

Shape = tuple[int, ...]

# In any case: flux.SAFETENSORS comes from file systems that know no other.
WEIGHT_ENDINGS: Final = (".safetensors", ".sft", ".gguf")

# The format's own limit; a larger number at the start means that the file is something else.
_MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}\.")
# diffusers' name and that of transformers.
_STEMS: Final = ("diffusion_pytorch_model", "model")
# Those that FLUX.1 comes in; the others need tables that are kept for language models.
GGUF_TYPES: Final = frozenset(
    {"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K"}
)
_GGUF: Final = b"GGUF"
_BITS: Final = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8} | {
    "U8": 8,
    "I8": 8,
}
_OTHER_FORMATS = (
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


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of one file, by name: a safetensors file or a GGUF file, whatever its name ends in.

    Raises:
        CheckpointError: the file cannot be read, is of another format, or is shorter than it says.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(_LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            text = stream.read(length) if length <= min(size, _MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    if start.startswith(_GGUF):
        return _read_gguf(file)
    try:
        header = json.loads(text)
        spans = dict(_spans(header))
        tensors = {
            name: TensorHeader(str(header[name]["dtype"]), tuple(header[name]["shape"]), end - begin, file, name)
            for name, (begin, end) in spans.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} {_what_instead(file)}") from None
    _check_spans(tensors, spans, file)
    expected = _LENGTH_BYTES + length + max((end for _, end in spans.values()), default=0)
    if size != expected:
        raise CheckpointError(
            f"{file} is damaged or not fully downloaded: it has {size} bytes and its header speaks of {expected}"
        )
    # The library that will read the weights has the last word on the header.
    with reading(file), safe_open(file, framework="np"):
        pass
    return tensors


def is_gguf(file: Path) -> bool:
    """Whether a file says that it is one."""
    with file.open("rb") as stream:
        return stream.read(len(_GGUF)) == _GGUF


def _spans(header: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, entry in header.items():
        if name != "__metadata__":
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


def _read_gguf(file: Path) -> dict[str, TensorHeader]:
    with reading(file):
        # Only who has such files waits for the import.
        from flux_endpoint.engine.gguf_file import GgufFile

        return {
            name: TensorHeader(dtype, shape, size_bytes, file, name)
            for name, (dtype, shape, size_bytes) in GgufFile(file).outlines().items()
        }


def _what_instead(file: Path) -> str:
    """What a file without a valid header is; many things are called .safetensors."""
    with file.open("rb") as stream:
        start = stream.read(64)
    for mark, kind in _OTHER_FORMATS:
        if start.lstrip().startswith(mark):
            return f"is {kind}, not a safetensors or GGUF file"
    return "is damaged: it has no valid safetensors header"


def read_folder(folder: Path) -> dict[str, TensorHeader]:
    """The tensors of one component of a checkpoint in the layout of diffusers: a single file, or shards with an index.

    A variant (`model.fp16.safetensors`) counts where there is no file without one.

    Args:
        folder: of the component.

    Raises:
        CheckpointError: a file is missing or damaged, or the index names tensors that its files do not hold.
    """
    for stem in _STEMS:
        single, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
        variants = sorted({*folder.glob(f"{stem}.*.safetensors"), *folder.glob(f"{stem}.safetensors.index.*.json")})
        variants = [file for file in variants if file.name != index and not _SHARD.search(file.name)]
        if (folder / single).is_file():
            return read_header(folder / single)
        if (folder / index).is_file():
            return _read_shards(folder / index)
        if len(variants) > 1:
            raise CheckpointError(f"{folder} holds {listing([file.name for file in variants])}: one of them is enough")
        if variants:
            return _read_shards(variants[0]) if variants[0].suffix == ".json" else read_header(variants[0])
    names = " or ".join(f"{stem}.safetensors, {stem}.safetensors.index.json" for stem in _STEMS)
    raise CheckpointError(f"{folder} lacks its weights: {names}")


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
