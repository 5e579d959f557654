"""A picture of noise that ways of drawing are compared on, and the time that one of them takes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.engine.denoise import Conditions, Velocity
from flux_endpoint.engine.latents import RenderSize, image_ids
from flux_endpoint.engine.level import Passes
from flux_endpoint.engine.text import PromptEmbeds

# bfloat16 holds all of these, also multiplied with 1000: what is computed in it is seen at its best.
_GUIDANCE: Final = 4.0
_TIMESTEPS: Final = (1000.0, 500.0)
_TURNS: Final = 3
# On the CPU short calls are made more often: neighbours make some of them longer.
_MOST_TURNS: Final = 15
_LONG_ENOUGH_S: Final = 0.03


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What a velocity is asked for: numbers of a normal distribution instead of a prompt and latents.

    Attributes:
        latents: packed, (1, image tokens, in_channels).
        conditions: without a negative prompt.
        timesteps: (2,), float32.
    """

    latents: Tensor
    conditions: Conditions
    timesteps: Tensor

    def velocity(self, passes: Passes) -> Velocity:
        """What is to be asked for the second of the two steps."""
        return passes(self.timesteps, self.conditions.positive, self.conditions)

    def ask(self, velocity: Velocity) -> Tensor:
        """The second step."""
        return velocity(1, self.latents)


def make_probe(transformer: FluxTransformer2DModel, size: RenderSize, text_tokens: int) -> Probe:
    """A picture of noise: the same numbers for the same shapes, on the device of a transformer and in its dtype.

    Args:
        transformer: that is to be asked.
        size: of the picture.
        text_tokens: of its prompt.
    """
    config, device, dtype = transformer.config, transformer.device, transformer.dtype
    random = torch.Generator().manual_seed(0)
    ids = image_ids(size)
    latents = torch.randn(1, len(ids), config.in_channels, generator=random).to(device, dtype)
    prompt = PromptEmbeds(
        torch.randn(1, text_tokens, config.joint_attention_dim, generator=random).to(device, dtype),
        torch.randn(1, config.pooled_projection_dim, generator=random).to(device, dtype),
        text_tokens,
        text_tokens,
    )
    guidance = torch.full([1], _GUIDANCE, device=device) if config.guidance_embeds else None
    conditions = Conditions(prompt, None, 1.0, guidance, ids)
    return Probe(latents, conditions, torch.tensor(_TIMESTEPS, device=device))


def distance(numbers: Tensor, exact: Tensor) -> float:
    """The length of the difference by the length of what is exact; infinite where a number is not finite."""
    off = float((numbers.float() - exact.float()).norm() / exact.float().norm())
    return math.inf if math.isnan(off) else off


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """The time of a call, from a few of them after one that may prepare something.

    On CUDA that is the device's own time, from the first of what a call asks it to do to the last: the median. On the
    CPU it is processor time, which a busy neighbour changes less, and only ever adds to: the least.
    """
    run()
    if device.type != "cuda":
        times: list[float] = []
        while len(times) < _TURNS or (len(times) < _MOST_TURNS and sum(times) < _LONG_ENOUGH_S):
            started_s = time.process_time()
            run()
            times.append(time.process_time() - started_s)
        return min(times)
    event: Any = torch.cuda.Event
    marks = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(_TURNS)]
    torch.cuda.synchronize(device)
    for start, end in marks:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize(device)
    return float(median(start.elapsed_time(end) for start, end in marks)) / 1000
