"""Whose weights a name in a LoRA file means: every trainer has its own way to write the names of FLUX.1's layers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flux_endpoint.files.original_names import SWAPPED, gain_modules, linear_modules, original_module


class Tower(StrEnum):
    """The component of a model that a layer is in."""

    TRANSFORMER = "transformer"
    CLIP = "text_encoder"
    T5 = "text_encoder_2"


@dataclass(frozen=True, slots=True)
class Layer:
    """The layers that one name means: one, or several that the original model computes as one.

    Attributes:
        tower: where they are.
        modules: their names in diffusers (transformers, for text encoders), by their rows from the first down.
        is_swapped: whether the halves of the rows change places.
    """

    tower: Tower
    modules: tuple[str, ...]
    is_swapped: bool = False


# Beside the names that the original model has: those of XLabs, whose 1 is the picture and 2 the text.
_XLABS: Final = {
    "double_blocks.N.processor.qkv_lora1": "double_blocks.N.img_attn.qkv",
    "double_blocks.N.processor.qkv_lora2": "double_blocks.N.txt_attn.qkv",
    "double_blocks.N.processor.proj_lora1": "double_blocks.N.img_attn.proj",
    "double_blocks.N.processor.proj_lora2": "double_blocks.N.txt_attn.proj",
    "single_blocks.N.processor.proj_lora": "single_blocks.N.linear2",
}
_XLABS_QKV: Final = "single_blocks.N.processor.qkv_lora"
_CLIP: Final = tuple(
    f"encoder.layers.N.{inner}"
    for inner in (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    )
)
_T5: Final = tuple(f"encoder.block.N.layer.0.SelfAttention.{part}" for part in "qkvo") + tuple(
    f"encoder.block.N.layer.1.DenseReluDense.{part}" for part in ("wi_0", "wi_1", "wo")
)
_TEXT_PREFIXES: Final = (
    (Tower.CLIP, ("lora_te1_", "lora_te_", "text_encoder.", "text_encoders.clip_l.transformer.")),
    (Tower.T5, ("lora_te2_", "lora_te3_", "text_encoder_2.", "text_encoders.t5xxl.transformer.")),
)
# Some come inside of others.
_PREFIXES: Final = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "unet.",
    "model.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
)
_NUMBER: Final = re.compile(r"(blocks?|layers)([._])(\d+)(?=[._])")


def layer_of(name: str) -> Layer | None:
    """The layers that a name in a LoRA file means; None for none of FLUX.1's.

    Args:
        name: without what says which tensor of the layer it is: `lora_unet_double_blocks_0_img_attn_qkv`.
    """
    for tower, prefixes in _TEXT_PREFIXES:
        for prefix in prefixes:
            if name.startswith(prefix):
                return _numbered(name.removeprefix(prefix), _TEXT[tower])
    return _numbered(_without_prefixes(name), _TRANSFORMER)


def gain_of(name: str) -> str | None:
    """The normalisation of queries or keys that a tensor replaces, as diffusers calls it; None for all other tensors.

    Args:
        name: as a file has it: `double_blocks.0.img_attn.norm.query_norm.scale`.
    """
    module, _, kind = _without_prefixes(name).rpartition(".")
    layer = _numbered(module, _GAINS) if kind in ("scale", "weight") else None
    return None if layer is None else layer.modules[0]


def _without_prefixes(name: str) -> str:
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), ""):
        name = name.removeprefix(prefix)
    return name


def _numbered(name: str, table: Mapping[str, Layer]) -> Layer | None:
    """Look up a name whose block has a number."""
    block = _NUMBER.search(name)
    if block is None:
        return table.get(name)
    # Of the first number only: `ff.net.0` has one of its own, which is part of its name.
    layer = table.get(name[: block.start(3)] + "N" + name[block.end(3) :])
    if layer is None:
        return None
    modules = tuple(module.replace("N", block[3], 1) for module in layer.modules)
    return Layer(layer.tower, modules, layer.is_swapped)


def _transformer_names() -> Iterator[tuple[str, Layer]]:
    stacked: dict[str, dict[int, str]] = {}
    for module in linear_modules():
        original, place = original_module(module.replace("N", "0", 1))
        stacked.setdefault(original.replace("_blocks.0.", "_blocks.N."), {})[place] = module
        yield module, Layer(Tower.TRANSFORMER, (module,))
    for original, by_place in stacked.items():
        modules = tuple(by_place[place] for place in sorted(by_place))
        layer = Layer(Tower.TRANSFORMER, modules, is_swapped=original == SWAPPED)
        yield original, layer
        if original == "single_blocks.N.linear1":
            yield _XLABS_QKV, Layer(Tower.TRANSFORMER, modules[:3])
        for name, same in _XLABS.items():
            if same == original:
                yield name, layer


def _with_underscores(names: Iterator[tuple[str, Layer]]) -> dict[str, Layer]:
    table: dict[str, Layer] = {}
    for name, layer in names:
        table[name] = table[name.replace(".", "_")] = layer
    return table


_TRANSFORMER: Final = _with_underscores(_transformer_names())
_GAINS: Final = {
    name: Layer(Tower.TRANSFORMER, (module,))
    for module in gain_modules()
    for name in (module, original_module(module.replace("N", "0", 1))[0].replace("_blocks.0.", "_blocks.N."))
}
_TEXT: Final = {
    # Files write `text_model.` before CLIP's names, and transformers no more.
    Tower.CLIP: _with_underscores(
        (prefix + name, Layer(Tower.CLIP, (name,))) for name in _CLIP for prefix in ("", "text_model.")
    ),
    Tower.T5: _with_underscores((name, Layer(Tower.T5, (name,))) for name in _T5),
}
