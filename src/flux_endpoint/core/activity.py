"""What a server did and does, in figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.job import JobStatus


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """How many unfinished jobs an endpoint has."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The unfinished jobs of one endpoint now.

    Attributes:
        waiting: jobs that are IN_QUEUE.
        pressing: of these, the ones that are not of low priority.
        running: jobs that are IN_PROGRESS.
        oldest_ms: when the oldest waiting one was made, milliseconds since 1970-01-01 UTC; None when none waits.
    """

    endpoint_id: str
    waiting: int
    pressing: int
    running: int
    oldest_ms: int | None


# Upper bounds of the pieces that times are counted in, milliseconds; what is longer is in a piece of its own.
DURATION_BOUNDS_MS: Final = (
    *(10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000),
)


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """Jobs of one endpoint that ended in the same way, after about the same times.

    Attributes:
        jobs: how many.
        retries: how often lost workers sent these back to the queue.
        delay: place in `DURATION_BOUNDS_MS` of how long they waited, one more than the last for longer; None for jobs
            that never ran.
        execution: the same of how long their last attempt took.
        delay_ms: of all of them together.
        execution_ms: of all of them together.
    """

    endpoint_id: str
    status: JobStatus
    jobs: int
    retries: int
    delay: int | None
    execution: int | None
    delay_ms: int
    execution_ms: int


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
