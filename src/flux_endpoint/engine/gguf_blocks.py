"""What GGUF files store, as torch tensors: it can be kept, cut by rows, and blocks can be unpacked on any device."""

from pathlib import Path
from typing import Final

import torch
from diffusers.quantizers.gguf.utils import dequantize_functions
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from flux_endpoint.files.safetensors_header import Shape

_PLAIN: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def map_plain(file: Path, begin: int, count: int, kind: str, shape: Shape) -> Tensor:
    """Plain numbers of a file; they stay in the file until they are used.

    Args:
        file: to be mapped.
        begin: of the first byte.
        count: of all bytes.
        kind: `F32`, `F16` or `BF16`.
        shape: of the tensor.
    """
    data = torch.from_file(str(file), size=begin + count, dtype=torch.uint8)[begin:]
    # Files begin tensors at multiples of 32, unless their writer says otherwise.
    return (data.clone() if begin % _PLAIN[kind].itemsize else data).view(_PLAIN[kind]).view(shape)


def map_blocks(file: Path, begin: int, count: int, rows: int) -> Tensor:
    """Bytes of a file, a row of the tensor in each row; they stay in the file until they are used.

    Args:
        file: to be mapped.
        begin: of the first byte.
        count: of all bytes.
        rows: of the tensor.
    """
    mapped = torch.from_file(str(file), size=begin + count, dtype=torch.uint8)
    return mapped[begin:].view(rows, -1)


def unpack_blocks(packed: Tensor, kind: str) -> Tensor:
    """The numbers, float32, on the device of the bytes: to the bit what the library `gguf` makes of them.

    Args:
        packed: rows of bytes.
        kind: of the blocks: `Q4_K`.
    """
    quantisation = GGMLQuantizationType[kind]
    block, block_bytes = GGML_QUANT_SIZES[quantisation]
    blocks = packed.reshape(-1, block_bytes)
    numbers: Tensor = dequantize_functions[quantisation](blocks, block, block_bytes, dtype=torch.float32)
    return numbers.reshape(packed.shape[0], -1)
