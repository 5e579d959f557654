"""Tiny random ControlNets in the layout of diffusers, which fit to the checkpoints of `build_checkpoint`."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxControlNetModel

from tests.engine.checkpoints import TRANSFORMER_CONFIG


def build_controlnet(folder: Path, seed: int = 0, **config: Any) -> Path:
    """Write one in bfloat16, with as few blocks as there can be; what training starts from zero is random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}
        model = FluxControlNetModel(**TRANSFORMER_CONFIG | sizes | config)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder
