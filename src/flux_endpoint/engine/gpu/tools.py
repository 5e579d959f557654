"""What a device offers the ladder."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from flux_endpoint.engine.blocks import Attend
from flux_endpoint.engine.gpu.attention import known_attentions
from flux_endpoint.engine.gpu.fp8 import Product, device_product
from flux_endpoint.engine.gpu.graphs import CudaRecorder, Recorder
from flux_endpoint.engine.latents import RenderSize

# From Ada (RTX 40, L4, L40) and Hopper on.
_FP8_CAPABILITY: Final = (8, 9)
# 1024x1024 but not square: the compiler takes sides of one length for the same side.
_PROBE: Final = RenderSize(1152, 896, 144, 112)
_PROBE_TEXT_TOKENS: Final = 512


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """What can be tried on a device.

    Attributes:
        device: where the model is.
        attentions: by name, the preferred first.
        backend: of torch's compiler; None where it cannot work.
        recorder: of CUDA graphs; None where there are none.
        product: in fp8; None where the device has none.
        free_bytes: how much memory the device has left.
        probe: size of the picture that is compared and timed; width and height must differ.
        text_tokens: of its prompt; another number than that of its image tokens.
    """

    device: torch.device
    attentions: Mapping[str, Attend]
    backend: str | None
    recorder: Recorder | None
    product: Product | None
    free_bytes: Callable[[], int]
    probe: RenderSize = _PROBE
    text_tokens: int = _PROBE_TEXT_TOKENS


def cuda_tools(device: torch.device) -> Tools:
    """All that a CUDA device has."""

    def free_bytes() -> int:
        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info(device)[0]
        return free

    capability: Any = torch.cuda.get_device_capability(device)
    return Tools(
        device=device,
        attentions=known_attentions(),
        # torch's compiler writes its kernels in Triton, which comes with torch where it works.
        backend="inductor" if importlib.util.find_spec("triton") else None,
        recorder=CudaRecorder(device),
        product=device_product if capability >= _FP8_CAPABILITY else None,
        free_bytes=free_bytes,
    )
