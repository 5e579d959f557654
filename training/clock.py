"""A training budget in minutes that survives restarts, and atomic checkpoints."""

import time
from pathlib import Path
from typing import Any

import torch


class Budget:
    """Counts training time against a budget; `spent_s` goes into checkpoints.

    On a GPU a minute is a minute. On a CPU it is one of processor time of this process: a machine busy with other
    work makes training take longer, but not worse.
    """

    def __init__(self, minutes: float, spent_s: float = 0.0) -> None:
        self._clock = time.monotonic if torch.cuda.is_available() else time.process_time
        self._total_s = minutes * 60
        self._start = self._clock() - spent_s

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self._clock() - self._start

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0..1; a budget of nothing is spent from the start."""
        return min(self.spent_s / self._total_s, 1.0) if self._total_s else 1.0


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves either the old or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, on the CPU, or None when there is none."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def require_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU.

    Raises:
        FileNotFoundError: there is none; a warm start must never turn into a cold one unnoticed.
    """
    if (state := load_checkpoint(path)) is None:
        raise FileNotFoundError(f"no checkpoint at {path}")
    return state
