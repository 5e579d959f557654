"""How long a step will take, before anything is loaded: the model's products, at the speed of this machine."""

import re
import time
from collections.abc import Mapping
from math import prod
from typing import Final

import torch
from torch.nn import functional

# That dev reads.
TEXT_TOKENS: Final = 512
_BLOCK: Final = re.compile(r"(single_)?transformer_blocks\.\d+\.(.+)\.weight")
# These read the text, and not the picture.
_OF_TEXT: Final = ("attn.add_", "attn.to_add_out", "ff_context.")
_MODULATION: Final = ("norm.linear", "norm1.linear", "norm1_context.linear")
# Of a product that is timed: as wide as FLUX.1's layers, and a few milliseconds of work.
_ROWS, _WIDTH, _TRIES = 256, 3_072, 3


def step_operations(shapes: Mapping[str, tuple[int, ...]], image_tokens: int, text_tokens: int) -> int:
    """Multiplications and additions of one forward pass.

    Args:
        shapes: of the transformer's tensors, under the names of diffusers.
        image_tokens: of the picture.
        text_tokens: of the prompt.
    """
    both = image_tokens + text_tokens
    operations = 0
    for name, shape in shapes.items():
        found = _BLOCK.fullmatch(name)
        if found is None or len(shape) != 2:
            continue
        is_single, layer = found.groups()
        tokens = text_tokens if layer.startswith(_OF_TEXT) else both if is_single else image_tokens
        operations += 2 * prod(shape) * (1 if layer in _MODULATION else tokens)
        if layer == "attn.to_q":
            # Every token with every other: once for how much they have to do with each other, once for what they say.
            operations += 2 * 2 * both * both * shape[0]
    return operations


@torch.inference_mode()
def measured_operations_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """What this machine does of them in a second: the best of a few products."""
    numbers = torch.ones(_ROWS, _WIDTH, device=device, dtype=dtype)
    weight = torch.ones(_WIDTH, _WIDTH, device=device, dtype=dtype)
    functional.linear(numbers, weight)
    seconds = []
    for _ in range(_TRIES):
        started_s = time.perf_counter()
        # Reading one number waits for a GPU to be done.
        functional.linear(numbers, weight)[0, 0].item()
        seconds.append(time.perf_counter() - started_s)
    return 2 * _ROWS * _WIDTH * _WIDTH / min(seconds)
