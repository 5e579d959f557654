"""Keeps the C library from giving memory back to the system between two layers."""

import ctypes
import sys
from typing import Final

# Numbers of glibc's mallopt, from its malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGEST_INT: Final = 2**31 - 1
# Above any feature map of a 1536x1536 picture that the embedded model makes.
_KEEP_BELOW_BYTES: Final = 2**30


def keep_freed_memory() -> None:
    """Reuse freed memory instead of asking the system again, for the whole process; changes no result.

    The feature maps of the autoencoder are large, so that glibc gives each back to the system as soon as it is freed,
    and the system clears every page again for the next: half of the CPU time of decoding a picture. Does nothing
    with another C library.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
        # A thread's own arena cannot hold blocks this large, and would fall back to the system.
        mallopt(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Return to the system what was kept."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)
