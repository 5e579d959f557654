"""One random model in each kind of file that people have, for `benchmarks.memory`; written as the tests write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from benchmarks.random_files import write_model
from benchmarks.random_flux import REDUCED_SIZES, Sizes, fill, meta_clip, meta_t5, meta_transformer, meta_vae
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.detect import Component
from tests.engine import single_files

Tensors = dict[str, Tensor]

_GGUF_KINDS: Final = ("Q8_0", "Q5_K", "Q4_K", "Q4_0", "Q2_K")
_PLAIN: Final = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
_PACKED: Final[Mapping[str, Callable[[Tensors], Tensors]]] = {
    "scaled fp8, older": lambda tensors: single_files.in_scaled_fp8(tensors, newer=False)[0],
    "scaled fp8, newer": lambda tensors: single_files.in_scaled_fp8(tensors, newer=True)[0],
}


def write_kinds(folder: Path) -> dict[str, str]:
    """Write them all; returns what to set MODEL to for each. Only the transformer differs, but for whole models."""
    parts = _components(REDUCED_SIZES)
    transformer = single_files.in_original_names(Component.TRANSFORMER, parts[Component.TRANSFORMER])
    single_files.write_single_files(
        folder,
        parts,
        {Component.VAE: "ae.safetensors", Component.CLIP: "clip_l.safetensors", Component.T5: "t5.safetensors"},
    )
    rest = f"vae={folder / 'ae.safetensors'} clip={folder / 'clip_l.safetensors'} t5={folder / 't5.safetensors'}"
    files = {"all in one, bf16": single_files.save(single_files.all_in_one(parts), folder / "all.safetensors")}
    sources = {name: str(file) for name, file in files.items()}
    sources["diffusers' folders, bf16"] = write_model(folder / "diffusers", REDUCED_SIZES, "BF16")
    for name, dtype in _PLAIN.items():
        numbers = {key: _rounded(key, tensor, dtype) for key, tensor in transformer.items()}
        files[name] = single_files.save(numbers, folder / f"{name}.safetensors")
    for name, packed in _PACKED.items():
        stem = name.replace(", ", "-").replace(" ", "-")
        files[name] = single_files.save(packed(transformer), folder / f"{stem}.safetensors")
    for kind in _GGUF_KINDS:
        files[f"GGUF {kind}"] = folder / f"{kind}.gguf"
        single_files.write_gguf(files[f"GGUF {kind}"], transformer, kind)
    return sources | {name: f"transformer={file} {rest}" for name, file in files.items() if name not in sources}


def _components(sizes: Sizes) -> dict[Component, Tensors]:
    modules = {
        Component.TRANSFORMER: meta_transformer(sizes, ModelFamily.DEV),
        Component.VAE: meta_vae(sizes),
        Component.CLIP: meta_clip(sizes),
        Component.T5: meta_t5(sizes),
    }
    cpu = torch.device("cpu")
    return {
        component: single_files.plain_numbers(fill(module, cpu, torch.bfloat16).state_dict())
        for component, module in modules.items()
    }


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In plain fp8 only the large products are."""
    return tensor.to(dtype) if dtype.itemsize > 1 or single_files.is_quantised(name, tensor) else tensor
