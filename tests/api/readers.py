"""What other processes are asked to make of a body."""

import time


def idle(data: bytes, seconds: float) -> int:
    """Take time, and nothing of the processor's."""
    time.sleep(seconds)
    return len(data)


def busy(_data: bytes) -> None:
    """Never come to an end."""
    while True:
        pass
