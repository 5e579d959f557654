"""What a worker's bytes depend on, beside the request and the weights: workers with one fingerprint are of one kind."""

import hashlib
from collections.abc import Mapping
from typing import Final

_ID_CHARS: Final = 8


def fingerprint_of(parts: Mapping[str, str]) -> str:
    """One line of ASCII for logs, listings and pictures.

    Args:
        parts: names and values, in the order in which they are shown. None of them changes while a process lives, nor
            from one start of a worker to the next.

    Returns:
        A hash of the parts, eight hexadecimal digits, and behind it the parts in brackets.
    """
    words = " ".join(", ".join(f"{name} {value}" for name, value in parts.items()).split())
    text = words.encode("ascii", "replace").decode()
    return f"{hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARS]} ({text})"
