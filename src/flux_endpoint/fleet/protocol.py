"""What the rest of the project asks of the thing that starts and stops workers, and what it tells of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FleetWorker:
    """One worker that a fleet keeps running.

    Attributes:
        worker_id: as in answers and logs; a restarted worker has a new one.
        pid: of its process, on whichever machine; None while there is none, or while that is not known.
        restarts: how often its place was filled again.
        is_leaving: it was asked to leave.
    """

    worker_id: str
    pid: int | None
    restarts: int
    is_leaving: bool = False


class WorkerEvents(Protocol):
    """Told by a fleet what becomes of its workers. A fleet goes on when one of these raises."""

    async def starts(self, worker_id: str, reason: str) -> None:
        """A worker is about to be started; `reason` says how the one before it died, and is empty otherwise."""
        ...

    async def leaves(self, worker_id: str) -> None:
        """A worker is no longer wanted, and will be asked to leave on return: from now on it gets no jobs."""
        ...

    async def left(self, worker_id: str) -> None:
        """A worker that was asked to leave has ended: what it still held is nobody's, and to no blame."""
        ...

    async def lost(self, worker_id: str) -> None:
        """A worker has died."""
        ...

    async def refused(self, worker_id: str, reason: str) -> None:
        """A worker has ended and will not be started again, because it can never run with these settings."""
        ...


class Fleet(Protocol):
    """Places workers somewhere and keeps them alive. Every verb may be repeated without harm.

    Attributes:
        is_shared: all servers on one database speak to the same workers through this; else each has its own.
    """

    is_shared: bool

    async def start(self) -> None:
        """Start the first workers; returns before they have loaded their models."""
        ...

    async def scale(self, workers: int, busy: Collection[str] = ()) -> None:
        """Keep so many workers from now on; returns before they have started, or left. Said again every second or so.

        Args:
            workers: how many.
            busy: ids of workers that run a job: of these none is asked to leave while another one is there. One that
                is asked gives its picture back.
        """
        ...

    async def restart(self, worker_id: str) -> None:
        """Ask one worker to leave; another takes its place. Does nothing for a worker of somebody else's."""
        ...

    async def replace(self, worker_id: str, why: str) -> None:
        """End one worker that is of no use; another takes its place. Does nothing for a worker of somebody else's."""
        ...

    async def list(self) -> Sequence[FleetWorker]:
        """The workers that are kept, and those that were asked to leave and have not yet."""
        ...

    async def wait_refused(self) -> int:
        """Wait until every worker has ended because it can never run with these settings; the first one's exit code.

        For ever while there are none.
        """
        ...

    async def stop(self) -> None:
        """Ask all workers to leave, wait for them within bounds, end the rest. A second call does nothing."""
        ...
