"""The noise schedule: which noise levels the steps of one picture visit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler


def shift_mu(image_tokens: int, config: Mapping[str, Any]) -> float:
    """How far the schedule leans towards high noise: larger pictures keep their layout to higher noise levels.

    A straight line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift).

    Args:
        image_tokens: tokens of the picture at its rendered size.
        config: of the scheduler.
    """
    base_tokens = config.get("base_image_seq_len", 256)
    max_tokens = config.get("max_image_seq_len", 4096)
    base_shift = config.get("base_shift", 0.5)
    max_shift = config.get("max_shift", 1.15)
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    # The order of these operations is FluxPipeline's: another one rounds differently.
    offset = base_shift - slope * base_tokens
    return float(image_tokens * slope + offset)


def make_scheduler(
    config: Mapping[str, Any], steps: int, image_tokens: int, device: torch.device
) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler for one picture, ready for its first step.

    It counts its own steps, so pictures that are drawn in turns must not share one.

    Args:
        config: of the checkpoint's scheduler.
        steps: number of denoising steps, at least 1.
        image_tokens: tokens of the picture at its rendered size.
        device: where the latents are.

    Returns:
        Its `timesteps` is (steps,), float32, falling from 1000.
    """
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    sigmas = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, device=device, mu=shift_mu(image_tokens, config))
    # Otherwise the first step searches for its own index, which on CUDA waits for the device.
    scheduler.set_begin_index(0)
    return scheduler
