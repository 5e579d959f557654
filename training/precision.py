"""The number format to train in: bfloat16 where the machine multiplies it, float32 where it would only imitate it."""

import torch

# Instructions that multiply bfloat16 (names of `torch.cpu.get_capabilities`): x86 vectors, x86 tiles, Arm vectors.
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU and on a CPU with instructions for it; float32 elsewhere, where bfloat16 is far slower."""
    if device.type != "cpu":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT" and capabilities.get("architecture") == "x86_64":
        # Told to use no vector instructions (ATEN_CPU_CAPABILITY), torch fails at attention in bfloat16.
        return torch.float32
    return torch.bfloat16 if any(capabilities.get(name) for name in _CPU_INSTRUCTIONS) else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Multiply in `compute_dtype`, inside a `with` block."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute_dtype(device) == torch.bfloat16)
