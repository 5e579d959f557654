"""What a server did and does, in figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.job import JobStatus


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """How many unfinished jobs an endpoint has."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class PastRun:
    """A job that was completed: how long its last attempt took, its size and its level (`core/picture_work.py`)."""

    execution_ms: int
    megapixel_steps: float
    level: str = Acceleration.NONE


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
    """What some endpoints did, together.

    Attributes:
        outcomes: oldest first; units in which no job ended are left out. A request refused on arrival is no job.
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
