"""GGUF files: what they hold, and their blocks of quantised numbers as plain numbers."""

import functools
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import MODEL_ARCH, GGUFReader, get_tensor_name_map
from gguf.quants import dequantize
from numpy.typing import NDArray

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.headers import GGUF_TYPES
from flux_endpoint.files.safetensors_header import Shape

_T5_LAYERS: Final = 64


class GgufFile:
    """An open file; its numbers stay where they are until one asks for them.

    Args:
        file: to be mapped into memory.

    Raises:
        CheckpointError: it is shorter than it says, or otherwise damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._tensors: dict[str, Any] = {_name(tensor.name): tensor for tensor in GGUFReader(file).tensors}
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} is a GGUF file, damaged or not fully downloaded: {error}") from error

    def outlines(self) -> dict[str, tuple[str, Shape, int]]:
        """Type, shape and bytes of each tensor, under the names of safetensors files.

        Raises:
            CheckpointError: a type is not read here.
        """
        outlines = {}
        for name, tensor in self._tensors.items():
            kind = tensor.tensor_type.name
            if kind not in GGUF_TYPES:
                raise CheckpointError(f"{self._file} is in the GGUF type {kind}; those from Q2_K to Q8_0 are read here")
            outlines[name] = (kind, tuple(int(length) for length in reversed(tensor.shape)), int(tensor.n_bytes))
        return outlines

    def place_of(self, name: str) -> tuple[int, int]:
        """Where the bytes of one tensor begin in the file, and how many they are."""
        tensor = self._tensors[name]
        return int(tensor.data_offset), int(tensor.n_bytes)

    def get_tensor(self, name: str) -> NDArray[np.float32]:
        """The numbers of one tensor that is stored in blocks, in its shape."""
        tensor = self._tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape)))


def _name(name: str) -> str:
    """T5 is the only component that GGUF files name in their own way."""
    return _t5_names().get(name, name)


@functools.cache
def _t5_names() -> dict[str, str]:
    names = get_tensor_name_map(MODEL_ARCH.T5ENCODER, _T5_LAYERS).mapping
    return {f"{short}.weight": f"{long}.weight" for long, (_, short) in names.items() if _is_of_flux(long)}


def _is_of_flux(name: str) -> bool:
    """Whether a name is of the T5 that FLUX.1 reads: the library's table also has older kinds and decoders."""
    return name.startswith(("shared", "encoder.")) and not name.endswith(".wi")
