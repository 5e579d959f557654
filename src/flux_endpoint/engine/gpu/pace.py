"""Keeps a program from running ahead of its GPU."""

from typing import Any

import torch


class Pace:
    """Lets one step be computed while the next one is asked for, and no more.

    A GPU is asked for a whole step in a fraction of the time that it takes. Without a brake all steps of a picture
    would be asked for at once: none could be stopped any more, nothing could come between them, and what a step costs
    would not show. Waiting for the step itself would leave the GPU idle until it is asked for the next one.

    Args:
        device: on the CPU a step has been computed when its call returns.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._last: Any = None

    def step_asked(self) -> None:
        """Call it after each step of whatever picture: waits for the end of the step before."""
        if not self._is_cuda:
            return
        if self._last is not None:
            self._last.synchronize()
        # Whoever waits sleeps, and leaves its core to others.
        self._last = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._last.record()
