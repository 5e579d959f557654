"""Weights that stay in the machine's memory and come to the device when they are needed."""

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import nn


def stream(module: nn.Module, device: torch.device) -> None:
    """Let a module that lies in the machine's memory work on a device: its blocks come one by one, the next ahead.

    Args:
        module: the transformer comes by blocks, a text encoder by layers, which it has no list of that is known.
        device: where it works.
    """
    is_transformer = isinstance(module, FluxTransformer2DModel)
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level" if is_transformer else "leaf_level",
        num_blocks_per_group=1 if is_transformer else None,
        use_stream=device.type == "cuda",
        # Pages are pinned when they are sent: all at once they would take as much memory again as the files.
        low_cpu_mem_usage=True,
    )
