"""Which arithmetic a process really does: told by the libraries where they tell it, and by its results."""

import hashlib
import os
from collections.abc import Iterator
from typing import Final

import diffusers
import PIL
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.encode import ENCODERS
from flux_endpoint.engine.linear import Linear, fast_dtype
from flux_endpoint.engine.parameters import SOFTWARE

# Settings of the libraries themselves by which an operator chooses other sums. torch's own is part of its capability.
_PREFIXES: Final = ("ONEDNN_", "DNNL_", "MKL_CBWR", "MKL_ENABLE_", "CUBLAS_", "NVIDIA_TF32", "TORCH_ALLOW_TF32")
_SILENT: Final = ("ONEDNN_VERBOSE", "DNNL_VERBOSE")
_DIGITS: Final = 8


def fingerprint_parts(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What the bytes of a picture depend on, for `fingerprint_of`.

    Args:
        device: where the model is; its threads are set already.
        dtype: of the weights.
    """
    parts = {"device": device.type, "dtype": str(dtype).removeprefix("torch.")}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        # A slice of a card (MIG) has its name and fewer processors: products are cut into other pieces there.
        parts["gpu"] = f"{properties.name} with {properties.multi_processor_count} processors"
        parts["capability"] = f"{properties.major}.{properties.minor}"
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        parts["cuda"] = f"{torch.version.cuda} with cudnn {cudnn}"
    else:
        parts["threads"] = str(torch.get_num_threads())
        name = torch.cpu.get_capabilities().get("cpu_name", "unknown")
        parts["cpu"] = f"{name} with {torch.backends.cpu.get_cpu_capability()}"
    parts["kernels"] = _results_hash(device, dtype)
    parts["torch"] = torch.__version__
    parts["diffusers"] = diffusers.__version__
    parts["transformers"] = transformers.__version__
    parts["pillow"] = f"{PIL.__version__} with {', '.join(encoder.library() for encoder in ENCODERS.values())}"
    parts["software"] = SOFTWARE
    chosen = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES) and name not in _SILENT}
    return parts | dict(sorted(chosen.items()))


@torch.inference_mode()
def _results_hash(device: torch.device, dtype: torch.dtype) -> str:
    """The last bits of what the engine does most.

    BLAS and oneDNN choose their kernels by processor, settings and shape, and say nowhere which: the results tell.
    """
    digest = hashlib.sha256()
    for result in _results(device, dtype):
        digest.update(result.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]


def _results(device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    tokens, width = 192, 512
    picture, hidden = numbers(1, 32, 48, 48), numbers(1, tokens, width)
    yield functional.linear(hidden, numbers(2 * width, width), numbers(2 * width))
    yield functional.conv2d(picture, numbers(48, 32, 3, 3), padding=1)
    yield functional.group_norm(picture, 8)
    heads = hidden.view(1, tokens, 8, width // 8).transpose(1, 2)
    yield functional.scaled_dot_product_attention(heads, heads.flip(2), heads)
    yield functional.rms_norm(hidden, (width,))
    yield functional.layer_norm(hidden, (width,))
    yield functional.gelu(hidden, approximate="tanh")
    yield functional.silu(hidden).cumsum(1)
    if device.type == "cpu":
        # What the speed levels do.
        weight, bias = numbers(2 * width, width), numbers(2 * width)
        for level_dtype in (dtype, fast_dtype()):
            yield Linear(weight, bias, level_dtype).gelu(hidden[0].to(level_dtype))
            lying = picture.to(level_dtype, memory_format=torch.channels_last)
            yield functional.conv2d(lying, numbers(48, 32, 3, 3).to(level_dtype), padding=1)
