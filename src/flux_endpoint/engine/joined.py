"""Weights of several linear layers as one, without a second copy of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from flux_endpoint.engine.stored_layers import StoredLinear


def can_join(transformer: FluxTransformer2DModel, device: torch.device) -> bool:
    """Whether all weights are plain and lie on the device, so that they can be moved together there."""
    is_plain = not any(isinstance(module, StoredLinear) for module in transformer.modules())
    # Without its index a device is the first of its kind.
    return is_plain and all(
        parameter.device.type == device.type and (device.index or 0) == (parameter.device.index or 0)
        for parameter in transformer.parameters()
    )


def join_weights(transformer: FluxTransformer2DModel) -> None:
    """Lay the weights of layers that read the same numbers behind each other, in place.

    The layers stay what they were and compute what they did: their weights become rows of one tensor. Of one group of
    layers both are in memory for a moment. A second call does nothing.
    """
    for layers in _groups(transformer):
        for name in ("weight", "bias"):
            parts = [getattr(layer, name) for layer in layers]
            if _lie_together(parts):
                continue
            whole = torch.cat([part.data for part in parts])
            for part, rows in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
                part.data = rows


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other along their first dimension: a view where they lie so, else a copy."""
    if not _lie_together(parts):
        return torch.cat(list(parts))
    first = parts[0]
    return first.detach().as_strided((sum(len(part) for part in parts), *first.shape[1:]), first.stride())


def _groups(transformer: FluxTransformer2DModel) -> Iterator[list[nn.Linear]]:
    blocks: Sequence[Any] = [*transformer.transformer_blocks]
    for block in blocks:
        attention = block.attn
        yield [attention.to_q, attention.to_k, attention.to_v]
        yield [attention.add_q_proj, attention.add_k_proj, attention.add_v_proj]
    blocks = [*transformer.single_transformer_blocks]
    for block in blocks:
        yield [block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp]


def _lie_together(parts: Sequence[Tensor]) -> bool:
    first = parts[0]
    end = first.data_ptr()
    for part in parts:
        is_next = part.is_contiguous() and part.data_ptr() == end and part.dtype == first.dtype
        if not is_next or part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return False
        end = part.data_ptr() + part.numel() * part.element_size()
    return True
