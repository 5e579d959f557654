"""What Black Forest Labs' own files call the modules of a transformer, beside the names of diffusers."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

# diffusers' module -> original module, and its place among the modules that are stacked in one original tensor.
_OUTER: Final[Mapping[str, tuple[str, int]]] = {
    "time_text_embed.timestep_embedder.linear_1": ("time_in.in_layer", 0),
    "time_text_embed.timestep_embedder.linear_2": ("time_in.out_layer", 0),
    "time_text_embed.text_embedder.linear_1": ("vector_in.in_layer", 0),
    "time_text_embed.text_embedder.linear_2": ("vector_in.out_layer", 0),
    "time_text_embed.guidance_embedder.linear_1": ("guidance_in.in_layer", 0),
    "time_text_embed.guidance_embedder.linear_2": ("guidance_in.out_layer", 0),
    "context_embedder": ("txt_in", 0),
    "x_embedder": ("img_in", 0),
    "norm_out.linear": ("final_layer.adaLN_modulation.1", 0),
    "proj_out": ("final_layer.linear", 0),
}
_DOUBLE: Final[Mapping[str, tuple[str, int]]] = {
    "norm1.linear": ("img_mod.lin", 0),
    "norm1_context.linear": ("txt_mod.lin", 0),
    "attn.to_q": ("img_attn.qkv", 0),
    "attn.to_k": ("img_attn.qkv", 1),
    "attn.to_v": ("img_attn.qkv", 2),
    "attn.add_q_proj": ("txt_attn.qkv", 0),
    "attn.add_k_proj": ("txt_attn.qkv", 1),
    "attn.add_v_proj": ("txt_attn.qkv", 2),
    "attn.norm_q": ("img_attn.norm.query_norm", 0),
    "attn.norm_k": ("img_attn.norm.key_norm", 0),
    "attn.norm_added_q": ("txt_attn.norm.query_norm", 0),
    "attn.norm_added_k": ("txt_attn.norm.key_norm", 0),
    "attn.to_out.0": ("img_attn.proj", 0),
    "attn.to_add_out": ("txt_attn.proj", 0),
    "ff.net.0.proj": ("img_mlp.0", 0),
    "ff.net.2": ("img_mlp.2", 0),
    "ff_context.net.0.proj": ("txt_mlp.0", 0),
    "ff_context.net.2": ("txt_mlp.2", 0),
}
_SINGLE: Final[Mapping[str, tuple[str, int]]] = {
    "norm.linear": ("modulation.lin", 0),
    "attn.to_q": ("linear1", 0),
    "attn.to_k": ("linear1", 1),
    "attn.to_v": ("linear1", 2),
    "proj_mlp": ("linear1", 3),
    "attn.norm_q": ("norm.query_norm", 0),
    "attn.norm_k": ("norm.key_norm", 0),
    "proj_out": ("linear2", 0),
}
_BLOCK: Final = re.compile(r"(single_)?transformer_blocks\.(\d+)\.(.+)")
_GAINS: Final = ("query_norm", "key_norm")
# The original file has shift before scale in this layer's output, diffusers scale before shift.
SWAPPED: Final = "final_layer.adaLN_modulation.1"


def original_name(name: str) -> tuple[str, int]:
    """The original name of a tensor of diffusers' transformer, and its place among those that are stacked there."""
    module, _, kind = name.rpartition(".")
    original, place = original_module(module)
    # The gain of a normalisation is called weight in diffusers and scale in the original.
    is_gain = original.endswith(_GAINS)
    return f"{original}.{'scale' if is_gain else kind}", place


def original_module(module: str) -> tuple[str, int]:
    """The original name of a module of diffusers' transformer, and its place among those that are stacked there.

    Raises:
        KeyError: diffusers' transformer has no such module.
    """
    block = _BLOCK.fullmatch(module)
    if block is None:
        return _OUTER[module]
    is_single, number, inner = block.groups()
    original, place = (_SINGLE if is_single else _DOUBLE)[inner]
    return f"{'single' if is_single else 'double'}_blocks.{number}.{original}", place


def linear_modules() -> Iterator[str]:
    """Names in diffusers of all linear layers of a transformer, with N for the number of their block."""
    yield from _OUTER
    for kind, inners in (("transformer_blocks", _DOUBLE), ("single_transformer_blocks", _SINGLE)):
        for inner, (original, _) in inners.items():
            if not original.endswith(_GAINS):
                yield f"{kind}.N.{inner}"


def gain_modules() -> Iterator[str]:
    """Names in diffusers of all normalisations of queries and keys, with N for the number of their block."""
    for kind, inners in (("transformer_blocks", _DOUBLE), ("single_transformer_blocks", _SINGLE)):
        yield from (f"{kind}.N.{inner}" for inner, (original, _) in inners.items() if original.endswith(_GAINS))
