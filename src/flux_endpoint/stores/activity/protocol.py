"""What the store tells of the work of a server: figures only, and never a row for each job."""

from collections.abc import Collection, Sequence
from typing import Protocol

from flux_endpoint.core.activity import Activity, EndedJobs, EndpointLoad, PastRun, QueueFigures


class ActivityStore(Protocol):
    """Figures for the operator; may raise `StoreUnavailable`."""

    async def activity(
        self, endpoint_ids: Collection[str], since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None
    ) -> Activity:
        """What some endpoints did.

        Args:
            endpoint_ids: the jobs of any of these; none of them have none.
            since_ms: jobs that ended then or later, milliseconds since 1970-01-01 UTC.
            until_ms: and before then.
            unit_ms: length of the units that outcomes are counted by; they begin at multiples of it.
            key_id: only the jobs of this key; None for those of all. Cold starts belong to no key.
        """
        ...

    async def note_cold_start(
        self, worker_id: str, endpoint_ids: Collection[str], duration_ms: int, ready_ms: int
    ) -> None:
        """Keep how long a worker took to start; the same length told again changes nothing.

        Args:
            worker_id: as `Job.worker_id`.
            endpoint_ids: endpoints it serves.
            duration_ms: from the start of its process to its first free slot.
            ready_ms: when that slot was free, milliseconds since 1970-01-01 UTC.
        """
        ...

    async def load(self, endpoint_id: str) -> EndpointLoad:
        """The unfinished jobs of an endpoint; takes time in proportion to their number, not to that of all jobs."""
        ...

    async def past_runs(self, endpoint_id: str, limit: int) -> Sequence[PastRun]:
        """The latest completed jobs of an endpoint, at most `limit`, the latest first."""
        ...

    async def queues(self, endpoint_ids: Collection[str]) -> Sequence[QueueFigures]:
        """The unfinished jobs of each of these endpoints; takes time in proportion to their number."""
        ...

    async def ended(self, endpoint_ids: Collection[str], since_ms: int, until_ms: int) -> Sequence[EndedJobs]:
        """Jobs of these endpoints that ended from `since_ms` to before `until_ms`, as few rows as tell them apart.

        A request refused on arrival is no job.
        """
        ...
