"""The names Black Forest Labs' own files give to the transformer's tensors, beside those of diffusers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from flux_endpoint.engine.headers import Shape

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
# The original file has shift before scale in this layer's output, diffusers scale before shift.
_SWAPPED: Final = "final_layer.adaLN_modulation.1."


@dataclass(frozen=True, slots=True)
class OriginalTensor:
    """One tensor of an original file.

    Attributes:
        shape: what it must be.
        parts: names of diffusers and their numbers of rows, from the first row down.
    """

    shape: Shape
    parts: tuple[tuple[str, int], ...]


def is_original(name: str) -> bool:
    """Whether only the original layout has such a name, which is without prefix."""
    return name.startswith(("double_blocks.", "single_blocks.", "img_in.", "guidance_in."))


def original_tensors(expected: Mapping[str, Shape]) -> dict[str, OriginalTensor]:
    """What an original file of the same model must hold.

    Args:
        expected: names and shapes of diffusers' transformer.
    """
    stacked: dict[str, dict[int, tuple[str, Shape]]] = {}
    for name, shape in expected.items():
        original, place = _original_name(name)
        stacked.setdefault(original, {})[place] = (name, shape)
    tensors = {}
    for original, by_place in stacked.items():
        parts = [by_place[place] for place in sorted(by_place)]
        rows = sum(shape[0] for _, shape in parts)
        columns = parts[0][1][1:]
        tensors[original] = OriginalTensor((rows, *columns), tuple((name, shape[0]) for name, shape in parts))
    return tensors


def split_original(name: str, tensor: Tensor, layout: OriginalTensor) -> dict[str, Tensor]:
    """Cut one original tensor into those of diffusers.

    Args:
        name: original name, without prefix.
        tensor: of shape `layout.shape`.
        layout: from `original_tensors`.

    Returns:
        Names and tensors of diffusers; views where nothing has to move.
    """
    if name.startswith(_SWAPPED):
        tensor = torch.cat(tensor.chunk(2)[::-1])
    pieces = torch.split(tensor, [rows for _, rows in layout.parts])
    return {part: piece for (part, _), piece in zip(layout.parts, pieces, strict=True)}


def moves_rows(name: str, layout: OriginalTensor) -> bool:
    """Whether `split_original` cuts a tensor or changes the order of its rows."""
    return len(layout.parts) > 1 or name.startswith(_SWAPPED)


def _original_name(name: str) -> tuple[str, int]:
    module, _, kind = name.rpartition(".")
    block = _BLOCK.fullmatch(module)
    if block is None:
        original, place = _OUTER[module]
    else:
        is_single, number, inner = block.groups()
        original, place = (_SINGLE if is_single else _DOUBLE)[inner]
        original = f"{'single' if is_single else 'double'}_blocks.{number}.{original}"
    # The gain of a normalisation is called weight in diffusers and scale in the original.
    is_gain = original.endswith(("query_norm", "key_norm"))
    return f"{original}.{'scale' if is_gain else kind}", place
