"""The life of a job: its record, its states and the moves between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.raw_json import RawJson


class JobStatus(StrEnum):
    """Where a job stands; the values are the wire's.

    Attributes:
        is_terminal: the job has ended; only an explicit retry can wake it again.
    """

    is_terminal: bool

    def __new__(cls, value: str, is_terminal: bool = True) -> "JobStatus":
        """Make a member of what stands below; names alone are those of the end."""
        status = str.__new__(cls, value)
        status._value_ = value
        status.is_terminal = is_terminal
        return status

    IN_QUEUE = "IN_QUEUE", False
    IN_PROGRESS = "IN_PROGRESS", False
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


ALLOWED_MOVES: Final[Mapping[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.IN_QUEUE: frozenset({JobStatus.IN_PROGRESS, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT}),
    JobStatus.IN_PROGRESS: frozenset(
        # IN_QUEUE: the worker was lost or gave the job back.
        {JobStatus.IN_QUEUE, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT}
    ),
    JobStatus.COMPLETED: frozenset(),
    # IN_QUEUE: the client asked for a retry.
    JobStatus.FAILED: frozenset({JobStatus.IN_QUEUE}),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.TIMED_OUT: frozenset({JobStatus.IN_QUEUE}),
}


_DAY_MS: Final = 86_400_000
# What a policy may say. Of a job that exists a shorter time to live may be asked: it may be over already.
EXECUTION_TIMEOUT_MS: Final = (5_000, 7 * _DAY_MS)
TTL_MS: Final = (10_000, 7 * _DAY_MS)
READ_TTL_MS: Final = (1_000, TTL_MS[1])


@dataclass(frozen=True, slots=True)
class Policy:
    """What the client asks for one job beside its input. Ranges are those of Runpod's `policy`.

    Attributes:
        execution_timeout_ms: how long one attempt may run before the job is TIMED_OUT.
        ttl_ms: how long after its submission the job exists at all, in whatever state; None when the client did not
            say: then `DEFAULT_TTL_MS` while it is unfinished, and the server's retention afterwards.
        low_priority: such a job alone is no reason to start another worker.
    """

    execution_timeout_ms: int = 600_000
    ttl_ms: int | None = None
    low_priority: bool = False


# How long a job may wait and run when its client named no time to live.
DEFAULT_TTL_MS: Final = 86_400_000


# Of jobs whose records do not say by which wire format they came: early versions knew one.
FIRST_DIALECT: Final = "runpod"
# Where `Job.progress` holds what a worker posted as the output so far.
POSTED: Final = "output"


@dataclass(frozen=True, slots=True)
class Job:
    """The durable record of one request. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        input: what the worker gets; for FLUX a complete, valid request with a concrete seed.
        key_id: the API key that pays.
        cost_usd: what will be charged at COMPLETED, fixed at submission.
        created_ms: submission.
        queued_ms: last time it entered the queue: `created_ms`, or when its worker was lost.
        started_ms: last time a worker claimed it; None while it never was.
        finished_ms: when it became terminal; None before.
        worker_id: who holds or held it last.
        drawn_by: the worker of the last attempt, when it has handed in its picture and the gateway holds the job since.
        claim_token: raised by one at each claim; a report with an older token is refused.
        retries: how often a lost worker sent it back to the queue.
        output: what the worker returned, any JSON value; None until the end, and when it returned nothing.
        error: why it FAILED or TIMED_OUT, a sentence a person can act on.
        policy: limits of this one job.
        webhook: URL that is told the end; None when nobody is.
        bucket: where the client wants the result; None for the server's own place.
        retention_ms: how long after its end the job can be read; None for as long as the record is kept.
        expires_ms: from when on the job can no longer be read; None for never. While it is unfinished, it ends then.
        progress: the latest news of the running attempt; None before the first and after the end.
        batch_id: the batch it came with; None for one that was sent by itself.
        origin: scheme, host, port and prefix that its client asked, for links to it in a webhook.
        dialect: the wire format by which it came, and in which its webhook is told.
        warnings: what of its request is not heeded, a sentence each.
        traceparent: names the span of its request (`core/tracing.py`); None where nobody traces.
    """

    id: str
    endpoint_id: str
    status: JobStatus
    input: Mapping[str, Any] | RawJson
    key_id: str
    cost_usd: Decimal
    created_ms: int
    queued_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    worker_id: str | None = None
    drawn_by: str | None = None
    claim_token: int = 0
    retries: int = 0
    output: Any = None
    error: str | None = None
    policy: Policy = Policy()
    webhook: str | None = None
    bucket: Bucket | None = None
    retention_ms: int | None = None
    expires_ms: int | None = None
    progress: Mapping[str, Any] | None = None
    batch_id: str | None = None
    origin: str | None = None
    dialect: str = FIRST_DIALECT
    warnings: tuple[str, ...] = ()
    traceparent: str | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        """Its input, whatever its length."""
        fields: Mapping[str, Any] = self.input.value if isinstance(self.input, RawJson) else self.input
        return fields

    @property
    def last_worker_id(self) -> str | None:
        """The worker of the last attempt; None while there was none."""
        return self.drawn_by or self.worker_id

    def is_readable(self, now_ms: int) -> bool:
        """Whether its time is not over yet."""
        return self.expires_ms is None or now_ms < self.expires_ms

    @property
    def delay_time_ms(self) -> int | None:
        """Wait in the queue before the last claim; None while it was never claimed."""
        return None if self.started_ms is None else max(0, self.started_ms - self.queued_ms)

    @property
    def execution_time_ms(self) -> int | None:
        """From the last claim to the end; None unless it was claimed and is terminal."""
        if self.started_ms is None or self.finished_ms is None:
            return None
        return max(0, self.finished_ms - self.started_ms)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's exclusive right to run a job until a time.

    Attributes:
        token: `claim_token` of the job at this claim; every report carries it.
        expires_ms: when the job goes back to the queue unless the lease is renewed.
    """

    job: Job
    worker_id: str
    token: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done.

    Attributes:
        output: what the client gets (before URLs are made of image keys), None for nothing.
        pictures: keys of those kept here that are the job's from now on (`PictureStore.reserve_pictures`).
    """

    output: Any
    pictures: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The work failed for good; nothing is charged. `output` is what the worker had all the same, None for nothing."""

    error: str
    output: Any = None


@dataclass(frozen=True, slots=True)
class Returned:
    """The worker gives the job back unharmed (it is shutting down); it counts as no retry."""


Outcome = Completed | Failed | Returned


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs of one endpoint are in each state; `retried` counts re-dispatches."""

    in_queue: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep of the leases did.

    Attributes:
        requeued: ids of jobs whose worker was lost and that wait again.
        failed: ids of jobs whose worker was lost once too often.
        timed_out: ids of jobs that ran or lived longer than their policy allows.
    """

    requeued: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    timed_out: tuple[str, ...] = ()


# Counting this far in the index takes a millisecond, however long the queue is.
MAX_QUEUE_POSITION: Final = 10_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a job is in the order of arrival: by its submission, and among those of the same millisecond by `seq`."""

    created_ms: int
    seq: int


# For how long a repeated request with an Idempotency-Key is known as such, whatever has become of its job; longer if
# that can be read for longer.
IDEMPOTENCY_KEY_LIFE_MS: Final = _DAY_MS


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A name under which a client submits a job at most once, however often it sends it.

    Attributes:
        name: its Idempotency-Key; one name for each API key and endpoint.
        request_hash: tells whether the body that came with it is the same.
    """

    name: str
    request_hash: str
