"""What torch says when a device has too little memory, or has failed: then all that the process does on it is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from flux_endpoint.core.errors import DeviceFailed

# https://docs.pytorch.org/docs/stable/notes/cuda.html: errors of kernels come up late, and at any later call.
_FAILURES: Final = ("CUDA error:", "cuDNN error:", "HIP error:")
# These say in the same way that memory is short.
_SHORT_OF_MEMORY: Final = ("out of memory", "ALLOC_FAILED")
# torch has no class of its own for it.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left; torch says so in several ways."""
    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or _CPU_ALLOCATOR in text
        or (_is_of_device(error) and any(words in text for words in _SHORT_OF_MEMORY))
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether a device refuses to work, rather than to do one thing. torch says so in several ways."""
    return _is_of_device(error) and not is_out_of_memory(error)


@contextmanager
def watching(device: torch.device) -> Iterator[None]:
    """While something is done on a device.

    Raises:
        DeviceFailed: it failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_failure(error):
            raise
        raise DeviceFailed(f"{device} has failed: {str(error).strip().partition(chr(10))[0]}") from error


def _is_of_device(error: BaseException) -> bool:
    is_torchs = isinstance(error, RuntimeError)
    return is_torchs and (isinstance(error, torch.AcceleratorError) or str(error).startswith(_FAILURES))
