"""What a file of weights says it holds, read without touching the weights."""

import json
import re
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.text import listing
from flux_endpoint.engine.trouble import reading
from flux_endpoint.files.safetensors_header import TensorHeader, read_safetensors

# In any case: flux.SAFETENSORS comes from file systems that know no other.
WEIGHT_ENDINGS: Final = (".safetensors", ".sft", ".gguf")

_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}\.")
# diffusers' name and that of transformers.
_STEMS: Final = ("diffusion_pytorch_model", "model")
# Those that FLUX.1 comes in; the others need tables that are kept for language models.
GGUF_TYPES: Final = frozenset(
    {"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K"}
)
_GGUF: Final = b"GGUF"


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of one file, by name: a safetensors file or a GGUF file, whatever its name ends in.

    Raises:
        CheckpointError: the file cannot be read, is of another format, or is shorter than it says.
    """
    try:
        is_other = is_gguf(file)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    if is_other:
        return _read_gguf(file)
    tensors = dict(read_safetensors(file).tensors)
    # The library that will read the weights has the last word on the header.
    with reading(file), safe_open(file, framework="np"):
        pass
    return tensors


def is_gguf(file: Path) -> bool:
    """Whether a file says that it is one."""
    with file.open("rb") as stream:
        return stream.read(len(_GGUF)) == _GGUF


def _read_gguf(file: Path) -> dict[str, TensorHeader]:
    with reading(file):
        # Only who has such files waits for the import.
        from flux_endpoint.engine.gguf_file import GgufFile

        return {
            name: TensorHeader(dtype, shape, size_bytes, file, name)
            for name, (dtype, shape, size_bytes) in GgufFile(file).outlines().items()
        }


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
        variants = [file for file in variants if file.name != index and not is_shard(file)]
        if (folder / single).is_file():
            return read_header(folder / single)
        if (folder / index).is_file():
            return _read_shards(folder / index)
        if len(variants) > 1:
            raise CheckpointError(f"{folder} holds {listing([file.name for file in variants])}: one of them is enough")
        if variants:
            return _read_shards(variants[0]) if variants[0].suffix == ".json" else read_header(variants[0])
    names = " or ".join(f"{stem}.safetensors, {stem}.safetensors.index.json" for stem in _STEMS)
    others = sorted(file.name for stem in _STEMS for file in folder.glob(f"{stem}*"))
    raise CheckpointError(f"{folder} lacks its weights: {names}" + (f"; it has {listing(others)}" if others else ""))


def is_component_folder(folder: Path) -> bool:
    """Whether a folder is that of one component, whose weights have the names of diffusers or transformers."""
    files = [file for ending in WEIGHT_ENDINGS for file in folder.glob(f"*{ending}")]
    return (folder / "config.json").is_file() and bool(files) and all(file.name.startswith(_STEMS) for file in files)


def is_shard(file: Path) -> bool:
    """Whether a file is one of several that hold one component, by its name."""
    return _SHARD.search(file.name) is not None


def _read_shards(index: Path) -> dict[str, TensorHeader]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise CheckpointError(f"{index} is damaged: it has no weight_map of tensors and files")
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
