"""Control LoRAs, which make FLUX.1 dev read a map (Canny, Depth): what one changes, from its header alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.text import listing
from flux_endpoint.files.lora_names import Tower, gain_of
from flux_endpoint.files.lora_outline import Form, LoraLayer, layers_in
from flux_endpoint.files.safetensors_header import SafetensorsHeader, TensorHeader, read_safetensors

# The layer that reads the latents, as diffusers calls it: this one is widened.
FIRST: Final = "x_embedder"
_BIAS: Final = re.compile(r"(?P<layer>.+)\.lora_B(?:\.default)?\.bias")
_PLAIN: Final = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class ControlLora:
    """What a control LoRA changes.

    Attributes:
        file: which it is.
        layers: weights that are changed, all of the transformer and of low rank.
        tensors: of the file, by name.
        biases: names of the tensors that are added to biases, by the names of their layers in the file; multiplied
            with the layer's factor, as all that the layer adds.
        gains: names of the tensors that stand in place of a normalisation's, by its name in diffusers.
        columns: how many numbers a token its first layer reads.
    """

    file: Path
    layers: tuple[LoraLayer, ...]
    tensors: Mapping[str, TensorHeader]
    biases: Mapping[str, str]
    gains: Mapping[str, str]
    columns: int


def outline_control(file: Path) -> ControlLora:
    """What a control LoRA changes.

    Args:
        file: with the names of Black Forest Labs or of diffusers.

    Raises:
        CheckpointError: the file is damaged, no control LoRA, not of FLUX.1, or something in it is not understood.
    """
    header = read_safetensors(file)
    biases = {match["layer"]: name for name in header.tensors if (match := _BIAS.fullmatch(name))}
    gains: dict[str, str] = {}
    for name in header.tensors:
        module = gain_of(name)
        if module is None:
            continue
        if module in gains:
            raise CheckpointError(f"{file.name} replaces {module} twice: by {gains[module]} and by {name}")
        gains[module] = name
    others = header.tensors.keys() - {*biases.values(), *gains.values()}
    # In the order of the file: whichever is told of in an error is always the same.
    layers = layers_in(file, header, [name for name in header.tensors if name in others], with_biases=True)
    _require_low_rank(file, layers)
    _require_vectors(file, header, [*biases.values(), *gains.values()])
    _require_biases_fit(file, header, layers, biases)
    columns = next((layer.columns for layer in layers if layer.layer.modules == (FIRST,)), None)
    if columns is None:
        raise CheckpointError(
            f"{file.name} is no control LoRA: it does not change the layer that reads a map ({FIRST})"
        )
    return ControlLora(file, tuple(layers), header.tensors, biases, gains, columns)


def _require_low_rank(file: Path, layers: list[LoraLayer]) -> None:
    for layer in layers:
        if layer.form is not Form.LORA:
            raise CheckpointError(f"{file.name} is no control LoRA: {layer.name} is a {layer.form}")
        if layer.layer.tower is not Tower.TRANSFORMER:
            raise CheckpointError(f"{file.name} is no control LoRA: it changes a text encoder ({layer.name})")


def _require_vectors(file: Path, header: SafetensorsHeader, names: list[str]) -> None:
    for name in names:
        tensor = header.tensors[name]
        if tensor.dtype not in _PLAIN or len(tensor.shape) != 1:
            raise CheckpointError(f"{file.name}: {name} is {tensor.dtype} of the shape {tensor.shape}, not a plain row")


def _require_biases_fit(
    file: Path, header: SafetensorsHeader, layers: list[LoraLayer], biases: Mapping[str, str]
) -> None:
    rows = {layer.name: layer.rows for layer in layers}
    lonely = [name for layer, name in biases.items() if layer not in rows]
    if lonely:
        raise CheckpointError(f"{file.name} is incomplete: {len(lonely)} biases have no weights: {listing(lonely)}")
    for layer, name in biases.items():
        if header.tensors[name].shape != (rows[layer],):
            shape = header.tensors[name].shape
            raise CheckpointError(f"{file.name}: {name} has the shape {shape}, and its layer has {rows[layer]} rows")
