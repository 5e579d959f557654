"""How a file stores the numbers of a tensor, and reading them: plain, scaled, in blocks, with tables beside them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import unwrapped
from flux_endpoint.engine.headers import GGUF_TYPES, is_gguf
from flux_endpoint.files.safetensors_header import Shape, TensorHeader

_PLAIN: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
# Quantised by GGUF.
GGUF_BLOCKS: Final = GGUF_TYPES - _PLAIN
_FP8: Final = frozenset({"F8_E4M3", "F8_E5M2"})
_SCALES: Final = frozenset({"F32", "F16", "BF16"})
# Both kinds of scaled fp8 that ComfyUI writes.
_SCALE_NAMES: Final = ("scale_weight", "weight_scale")
_FP8_FORMATS: Final = ("float8_e4m3fn", "float8_e5m2")
_FOUR_BIT: Final = ".quant_state.bitsandbytes__"
# What lies beside a weight and is read with it, or says nothing that is needed: scales of the numbers that go in.
_BESIDE: Final = (
    ".scale_weight",
    ".weight_scale",
    ".scale_input",
    ".input_scale",
    ".comfy_quant",
    ".weight_format",
    ".SCB",
    ".absmax",
    ".quant_map",
    "_weight_scale",
    "_weight_zero_point",
)
_CHECKED_AT_ONCE: Final = 2**20
_INT8_STEPS: Final = 127


class TensorReader:
    """Reads single tensors onto a device; opens each file once.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._files: dict[Path, Any] = {}

    def read(self, header: TensorHeader) -> Tensor:
        """The tensor as the file has it, blocks of GGUF as float32; the rest is mapped, where the device is the CPU."""
        if header.dtype not in GGUF_BLOCKS and is_gguf(header.file):
            return self._mapped(header)
        return torch.as_tensor(self._opened(header.file).get_tensor(header.name)).to(self._device)

    def read_packed(self, header: TensorHeader) -> Tensor:
        """The tensor as the file has it, blocks of GGUF as rows of bytes; mapped, where the device is the CPU."""
        return self._mapped(header) if header.dtype in GGUF_BLOCKS else self.read(header)

    def _mapped(self, header: TensorHeader) -> Tensor:
        # Who has no such file need not wait for the import.
        from flux_endpoint.engine.gguf_blocks import map_blocks, map_plain

        begin, count = self._opened(header.file).place_of(header.name)
        if header.dtype in GGUF_BLOCKS:
            return map_blocks(header.file, begin, count, header.shape[0]).to(self._device)
        return map_plain(header.file, begin, count, header.dtype, header.shape).to(self._device)

    def read_json(self, header: TensorHeader) -> dict[str, Any]:
        """A small table of text that some tools keep in a tensor of bytes.

        Raises:
            CheckpointError: it is none.
        """
        try:
            table: dict[str, Any] = json.loads(bytes(self.read(header).cpu().numpy()))
            return dict(table)
        except ValueError as error:
            raise CheckpointError(f"{header.file}: {header.name} is damaged: {error}") from None

    def _opened(self, file: Path) -> Any:
        if file not in self._files:
            if is_gguf(file):
                # Who has no such file need not wait for the import.
                from flux_endpoint.engine.gguf_file import GgufFile

                self._files[file] = GgufFile(file)
            else:
                self._files[file] = safe_open(file, framework="pt", device=str(self._device))
        return self._files[file]


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One tensor of a model, in however many tensors of a file.

    Attributes:
        shape: of the numbers.
        headers: of what is read for it; the first holds the numbers themselves.
        way: for people: `scaled fp8`; empty for plain numbers.
        combine: makes the numbers of the tensors that were read, in the order of `headers`.
        is_merged: whether they are made of several files once, and kept as plain numbers from then on.
    """

    shape: Shape
    headers: tuple[TensorHeader, ...]
    way: str = ""
    combine: Callable[..., Tensor] = field(default=lambda tensor: tensor)
    is_merged: bool = False

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """In the file, scales and tables included."""
        return sum(header.size_bytes for header in self.headers)

    def read(self, reader: TensorReader, dtype: torch.dtype) -> Tensor:
        """Its numbers.

        Raises:
            CheckpointError: one of them is NaN or infinite: a picture would be black, and nothing would say why.
        """
        numbers = self.combine(*(reader.read(header) for header in self.headers)).to(dtype)
        self.check_finite(numbers)
        return numbers.reshape(self.shape)

    def read_packed(self, reader: TensorReader) -> tuple[Tensor, ...]:
        """What `unpack` makes plain numbers of."""
        return tuple(reader.read_packed(header) for header in self.headers)

    def unpack(self, *packed: Tensor) -> Tensor:
        """The numbers of the tensor, or of some of its rows, in the precision that they are stored with."""
        if self.headers[0].dtype in GGUF_BLOCKS:
            from flux_endpoint.engine.gguf_blocks import unpack_blocks

            return unpack_blocks(packed[0], self.headers[0].dtype)
        return self.combine(*packed)

    def check_finite(self, numbers: Tensor) -> None:
        """Look at the tensor's numbers.

        Raises:
            CheckpointError: one of them is NaN or infinite.
        """
        # In pieces: what is computed on the way would else take as much memory as the largest tensor.
        if not all(torch.isfinite(piece).all() for piece in torch.split(numbers.reshape(-1), _CHECKED_AT_ONCE)):
            main = self.headers[0]
            raise CheckpointError(f"{main.file}: {main.name} holds numbers that are NaN or infinite")


def gather(headers: Mapping[str, TensorHeader]) -> dict[str, StoredTensor]:
    """The tensors of a model, by their names without what tools put before them.

    Args:
        headers: of the files.

    Raises:
        CheckpointError: numbers are stored in a way that is not read here; says which.
    """
    plain = {unwrapped(name): header for name, header in headers.items()}
    tensors = {}
    for name, header in plain.items():
        if name.endswith("_weight_qdata"):
            tensors[name.removesuffix("_weight_qdata") + "weight"] = _torchao(name, plain)
        elif not _is_beside(name):
            tensors[name] = _stored(name, header, plain)
    return tensors


def _is_beside(name: str) -> bool:
    return name.endswith((*_BESIDE, "scaled_fp8")) or _FOUR_BIT in name or ".nested_" in name


def _stored(name: str, header: TensorHeader, plain: Mapping[str, TensorHeader]) -> StoredTensor:
    module = name.removesuffix(".weight")
    state = next((plain[key] for kind in ("nf4", "fp4") if (key := f"{name}{_FOUR_BIT}{kind}") in plain), None)
    if state is not None:
        return _four_bit(name, header, state, plain)
    if header.dtype == "I8" and f"{module}.SCB" in plain:
        return StoredTensor(header.shape, (header, plain[f"{module}.SCB"]), "8-bit bitsandbytes", _from_int8)
    scale = next((plain[f"{module}.{key}"] for key in _SCALE_NAMES if f"{module}.{key}" in plain), None)
    if scale is not None and name.endswith(".weight"):
        return _scaled(header, scale, plain.get(f"{module}.comfy_quant"))
    way = f"GGUF {header.dtype}" if header.dtype in GGUF_BLOCKS else ""
    return StoredTensor(header.shape, (header,), way)


def _scaled(header: TensorHeader, scale: TensorHeader, note: TensorHeader | None) -> StoredTensor:
    if note is not None:
        written = TensorReader(torch.device("cpu")).read_json(note).get("format")
        if written not in _FP8_FORMATS:
            raise CheckpointError(f"{header.file} is quantised as {written}, which is not read here ({header.name})")
    if header.dtype not in _FP8 or scale.dtype not in _SCALES or not _spreads(scale.shape, header.shape):
        kind = f"{header.dtype} with scales of {scale.dtype} for {_by(scale.shape)} blocks"
        raise CheckpointError(f"{header.file}: {header.name} is {kind}, which is not read here")
    return StoredTensor(header.shape, (header, scale), "scaled fp8", _multiply)


def _torchao(name: str, plain: Mapping[str, TensorHeader]) -> StoredTensor:
    stem = name.removesuffix("_qdata")
    numbers, scale, zero = plain[name], plain.get(f"{stem}_scale"), plain.get(f"{stem}_zero_point")
    if scale is None or numbers.dtype not in _FP8 | {"I8"} or not _spreads(scale.shape, numbers.shape):
        raise CheckpointError(
            f"{numbers.file}: {numbers.name} is of a torchao kind that is not read here: 8-bit weights are"
        )
    if zero is None:
        return StoredTensor(numbers.shape, (numbers, scale), "torchao", _multiply)
    return StoredTensor(numbers.shape, (numbers, scale, zero), "torchao", _shift_and_multiply)


def _four_bit(name: str, header: TensorHeader, state: TensorHeader, plain: Mapping[str, TensorHeader]) -> StoredTensor:
    table = TensorReader(torch.device("cpu")).read_json(state)
    beside = [f"{name}.absmax", f"{name}.quant_map"]
    if f"{name}.nested_absmax" in plain:
        beside += [f"{name}.nested_absmax", f"{name}.nested_quant_map"]
    try:
        shape = tuple(int(length) for length in table["shape"])
        headers = (header, *(plain[key] for key in beside))
        combine = partial(
            _from_four_bit,
            block=int(table["blocksize"]),
            nested_block=int(table.get("nested_blocksize", 1)),
            nested_offset=float(table.get("nested_offset", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{header.file}: {state.name} is damaged: {error!r}") from None
    if header.dtype != "U8" or 2 * header.parameters != prod(shape):
        raise CheckpointError(f"{header.file}: {header.name} does not hold the {prod(shape)} numbers that it should")
    return StoredTensor(shape, headers, "4-bit bitsandbytes", combine)


def _from_int8(numbers: Tensor, row_maxima: Tensor) -> Tensor:
    return numbers.float() * (row_maxima.float() / _INT8_STEPS)[:, None]


def _multiply(numbers: Tensor, scale: Tensor) -> Tensor:
    return numbers.float() * _spread(scale.float(), numbers.shape)


def _shift_and_multiply(numbers: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    shifted = numbers.float() - _spread(zero_point.float(), numbers.shape)
    return shifted * _spread(scale.float(), numbers.shape)


def _from_four_bit(
    packed: Tensor,
    absmax: Tensor,
    levels: Tensor,
    nested_absmax: Tensor | None = None,
    nested_levels: Tensor | None = None,
    *,
    block: int,
    nested_block: int,
    nested_offset: float,
) -> Tensor:
    """Look up each half byte, the upper half first; a block of numbers has one size, which may be packed itself."""
    sizes = absmax.float()
    if nested_absmax is not None and nested_levels is not None:
        nested = nested_absmax.float().repeat_interleave(nested_block)[: absmax.numel()]
        sizes = nested_levels.float()[absmax.long()] * nested + nested_offset
    packed = packed.flatten()
    numbers = levels.float()[torch.stack((packed >> 4, packed & 15), dim=1).flatten().long()]
    return numbers * sizes.repeat_interleave(block)[: numbers.numel()]


def _spreads(scale: Shape, shape: Shape) -> bool:
    """Whether each scale stands for a block of numbers: for all of them, for rows, or for tiles."""
    if prod(scale) == 1 or (len(scale) == 1 and scale[0] == shape[0]):
        return True
    return len(scale) == len(shape) and all(part and not whole % part for whole, part in zip(shape, scale, strict=True))


def _spread(scale: Tensor, shape: Shape) -> Tensor:
    if scale.numel() == 1:
        return scale.reshape([1] * len(shape))
    if scale.ndim == 1:
        return scale.reshape(-1, *[1] * (len(shape) - 1))
    for axis, length in enumerate(shape):
        if scale.shape[axis] not in (1, length):
            scale = scale.repeat_interleave(length // scale.shape[axis], dim=axis)
    return scale


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "single"
