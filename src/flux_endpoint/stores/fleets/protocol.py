"""What the rest of the project asks of the place where servers agree on how many workers each keeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Work:
    """The unfinished jobs of some endpoints.

    Attributes:
        waiting: those that wait, but for those of low priority; counted up to a limit.
        overdue: how many of them have waited too long.
        running: by the id of each worker that runs any: how many it does, those of low priority left out.
    """

    waiting: int
    overdue: int
    running: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers that one server keeps.

    Attributes:
        name: of the server.
        min_workers: it never has fewer.
        max_workers: nor more.
        kept: it has now.
        busy: of these run a job.
        running: jobs that they run, but for those of low priority.
    """

    name: str
    min_workers: int
    max_workers: int
    kept: int = 0
    busy: int = 0
    running: int = 0


class FleetStore(Protocol):
    """Every verb is atomic; all may raise `StoreUnavailable`."""

    async def work(self, endpoint_ids: Collection[str], queued_before_ms: int, limit: int) -> Work:
        """What there is to do.

        Args:
            endpoint_ids: only the jobs of these count.
            queued_before_ms: who has waited since then or longer, has waited too long.
            limit: so many waiting jobs are counted, the oldest first.
        """
        ...

    async def note_pool(self, pool: Pool, now_ms: int) -> int | None:
        """Tell the others of the workers of one server; returns how many it is to have, None before anybody said."""
        ...

    async def pools(self, seen_since_ms: int) -> Sequence[Pool]:
        """What servers have told since a time, by name."""
        ...

    async def share_out(self, shares: Mapping[str, int], forget_before_ms: int) -> None:
        """Say how many workers each server is to have, by name; forget those that have told nothing since a time."""
        ...


class Leadership(Protocol):
    """One of the servers on a database decides for all."""

    async def is_mine(self) -> bool:
        """Whether this server decides now. It begins to when nobody else does; two may believe so for a moment."""
        ...

    async def close(self) -> None:
        """Let another one decide. A second call does nothing."""
        ...
