"""What the store tells of the work of a server: figures only, and never a row for each job."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from flux_endpoint.core.job import JobStatus


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many jobs ended in one way during one unit of time that begins at `start_ms`."""

    start_ms: int
    status: JobStatus
    jobs: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of whole milliseconds, by nearest rank: 70, 90 and 98 percent took no longer than this."""

    p70_ms: int
    p90_ms: int
    p98_ms: int


@dataclass(frozen=True, slots=True)
class Activity:
    """The work of some endpoints, together.

    Attributes:
        outcomes: oldest first; units in which no job ended are left out. A request refused at the door is no job.
        retries: how often lost workers sent the jobs that ended in the range back to the queue.
        execution: of jobs that became COMPLETED in the range, as `Job.execution_time_ms`; None when there are none.
        delay: of the same jobs, as `Job.delay_time_ms`.
        cold_starts: how many workers of these endpoints started in the range and said how long that took.
        cold_start: from the start of their processes to their first free slot; None when there are none.
        in_queue: jobs that wait now.
        in_progress: jobs that run now.
    """

    outcomes: Sequence[OutcomeCount]
    retries: int
    execution: Percentiles | None
    delay: Percentiles | None
    cold_starts: int
    cold_start: Percentiles | None
    in_queue: int
    in_progress: int


class UsageStore(Protocol):
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

    async def forget_cold_starts(self, before_ms: int) -> None:
        """Delete the cold starts of before a time."""
        ...
