"""A transformer with LoRAs in its weights, for the levels that lay weights out anew in any case."""

import copy
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import nn

from flux_endpoint.engine.lora.active import ActiveLoras
from flux_endpoint.files.lora_names import Tower


@torch.inference_mode()
def merged(transformer: FluxTransformer2DModel, loras: ActiveLoras) -> FluxTransformer2DModel:
    """A copy of a transformer whose changed layers have weights of their own; the original stays as it is.

    Args:
        transformer: of plain layers; all its tensors that are not changed are the copy's, too.
        loras: what changes it.
    """
    tensors = (*transformer.parameters(), *transformer.buffers())
    result: FluxTransformer2DModel = copy.deepcopy(transformer, {id(tensor): tensor for tensor in tensors})
    for name, changes in loras.of(Tower.TRANSFORMER):
        linear: Any = result.get_submodule(name)
        weight = linear.weight
        for change, scale in changes:
            weight = change.merged(weight, scale)
        linear.weight = nn.Parameter(weight, requires_grad=False)
    return result
