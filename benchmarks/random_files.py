"""Files of FLUX.1's shape with random weights, written piece by piece: at the true size they do not fit into memory."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from benchmarks.random_flux import MODULATION, MODULATION_GAIN, Sizes, meta_clip, meta_t5, meta_transformer, meta_vae
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.detect import Component
from flux_endpoint.files.safetensors_header import Shape

DTYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}
_SHARD_BYTES: Final = 2**30
_POOL_NUMBERS: Final = 2**24
_WORDS: Final = {Component.TRANSFORMER: "transformer", Component.VAE: "vae", Component.CLIP: "clip", Component.T5: "t5"}


def write_model(folder: Path, sizes: Sizes, dtype: str) -> str:
    """Write the four components of a model with one type of numbers; returns what to set MODEL to."""
    modules: dict[Component, Any] = {
        Component.TRANSFORMER: meta_transformer(sizes, ModelFamily.DEV),
        Component.VAE: meta_vae(sizes),
        Component.CLIP: meta_clip(sizes),
        Component.T5: meta_t5(sizes),
    }
    for component, module in modules.items():
        place = folder / component
        place.mkdir(parents=True)
        config = module.config if isinstance(module.config, dict) else module.config.to_dict()
        is_of_diffusers = component in (Component.TRANSFORMER, Component.VAE)
        kind = type(module).__name__
        named: dict[str, Any] = {"_class_name": kind} if is_of_diffusers else {"architectures": [kind]}
        (place / "config.json").write_text(json.dumps({**config, **named}, default=list))
        _write_shards(place, "diffusion_pytorch_model" if is_of_diffusers else "model", shapes_of(module), dtype)
    return " ".join(f"{word}={folder / component}" for component, word in _WORDS.items())


def shapes_of(module: nn.Module) -> dict[str, Shape]:
    """Of all that a file holds of a module."""
    again = getattr(module, "all_tied_weights_keys", {})
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if name not in again}


def _write_shards(folder: Path, stem: str, shapes: dict[str, Shape], dtype: str) -> None:
    shards: list[dict[str, Shape]] = [{}]
    size = 0
    for name, shape in shapes.items():
        size += prod(shape) * DTYPES[dtype].itemsize
        if size > _SHARD_BYTES and shards[-1]:
            shards.append({})
            size = prod(shape) * DTYPES[dtype].itemsize
        shards[-1][name] = shape
    pool = torch.randn(_POOL_NUMBERS, generator=torch.Generator().manual_seed(0))
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(shard, name)
        _write_shard(folder / name, shard, dtype, pool)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def _write_shard(file: Path, shapes: dict[str, Shape], dtype: str, pool: torch.Tensor) -> None:
    header, position = {}, 0
    for name, shape in shapes.items():
        end = position + prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            left = prod(shape)
            while left:
                piece = pool[: min(left, _POOL_NUMBERS)]
                left -= piece.numel()
                stream.write(_like(name, shape, piece).to(DTYPES[dtype]).view(torch.uint8).numpy().data)


def _like(name: str, shape: Shape, numbers: torch.Tensor) -> torch.Tensor:
    """As `fill` draws them, so that the numbers between layers stay near 1."""
    if len(shape) > 1:
        gain = MODULATION_GAIN if name.endswith(MODULATION) else 1.0
        return numbers * (gain * (prod(shape[1:])) ** -0.5)
    return 1 + 0.05 * numbers if name.endswith("weight") else 0.02 * numbers
