"""What the rest of the project asks of the thing that starts and stops workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker that the fleet keeps running.

    Attributes:
        worker_id: as in answers and logs; a restarted worker has a new one.
        pid: of its process on this machine; None while it waits to be restarted.
        restarts: how often its slot was started again.
    """

    worker_id: str
    pid: int | None
    restarts: int


class Fleet(Protocol):
    """Places workers somewhere and keeps them alive."""

    async def start(self) -> None:
        """Start the workers; returns before they have loaded their models."""
        ...

    async def stop(self) -> None:
        """Ask all workers to leave, wait for them within bounds, end the rest. A second call does nothing."""
        ...

    async def list(self) -> Sequence[WorkerProcess]:
        """The workers that should be running."""
        ...
