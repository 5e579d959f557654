"""What the rest of the project asks of the place where jobs are kept: clients' side and workers' side.

Every verb is one atomic transition or one question; all are safe to call concurrently. Each may raise
`StoreUnavailable`: the database did not answer, and nothing changed.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from flux_endpoint.core.affinity import Affinity
from flux_endpoint.core.job import Claim, Cursor, IdempotencyKey, Job, JobCounts, JobStatus, Outcome, SweepResult

# Waits for the end of a job.
EndOf = Callable[[Job], Coroutine[Any, Any, Job]]


class JobStore(Protocol):
    """The durable queue, for those who submit jobs and read them."""

    async def enqueue(self, job: Job, idempotency_key: IdempotencyKey | None = None) -> Job:
        """Write a new job, as it is: IN_QUEUE, or FAILED for one refused at the door. Durable on return.

        Returns:
            The job; with `idempotency_key`, the one that was submitted under that name before.

        Raises:
            Conflict: the name came with another request before.
            ResultErased: it came with the same request less than `IDEMPOTENCY_KEY_LIFE_MS` ago, for a job that cannot
                be read any more.
            OverBudget: its key cannot pay for it beside what it has spent this month and promised to unfinished jobs.
            ValueError: a job of that id exists, or its status is another one.
        """
        ...

    async def find_submitted(self, endpoint_id: str, key_id: str, idempotency_key: IdempotencyKey) -> Job | None:
        """The job that a key has submitted under a name; None when the name is free.

        Raises:
            Conflict, ResultErased: see `enqueue`.
        """
        ...

    async def get(self, endpoint_id: str, job_id: str) -> Job:
        """Read one job.

        Raises:
            UnknownJob: no such job on that endpoint, or its time is over (`Job.expires_ms`): so for every verb.
        """
        ...

    async def set_ttl(self, endpoint_id: str, job_id: str, ttl_ms: int) -> Job:
        """Let the job end and vanish `ttl_ms` milliseconds from now, instead of when it would have.

        Raises:
            UnknownJob: no such job on that endpoint.
        """
        ...

    async def wait(self, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is terminal, or as it stands after `timeout_s` seconds. Sleeps, never polls hot.

        Raises:
            UnknownJob: no such job on that endpoint.
        """
        ...

    def ending(self, job_id: str, timeout_s: float) -> AbstractContextManager[EndOf]:
        """For who writes a job in the block, and waits for its end there: nothing is missed in between.

        Returns:
            What waits: called with the job as it was written, it answers as `wait` does, without a look at once.
        """
        ...

    async def wait_for_change(self, endpoint_id: str, job_id: str, seen: Job, timeout_s: float) -> Job:
        """The job as soon as it differs from `seen`, or as it stands after `timeout_s` seconds.

        Sleeps, never polls hot. While the store is draining it answers at once.

        Raises:
            UnknownJob: no such job on that endpoint.
        """
        ...

    @property
    def is_draining(self) -> bool:
        """Whether nobody waits any more, because the process is about to end."""
        ...

    async def queue_position(self, job: Job) -> int | None:
        """Which of the waiting jobs of its endpoint a job is, 1 for the next; None unless it is IN_QUEUE.

        Counts no further than `MAX_QUEUE_POSITION`, which stands for all places from there on.
        """
        ...

    async def recent(
        self,
        endpoint_id: str,
        statuses: Collection[JobStatus],
        limit: int,
        before: Cursor | None = None,
        key_id: str | None = None,
    ) -> tuple[list[Job], Cursor | None]:
        """Figures of the jobs of an endpoint, newest first, those that can no longer be read included.

        Args:
            endpoint_id: where they were sent.
            statuses: only those in one of these states; all when empty.
            limit: how many at most, above 0.
            before: only those that came before this place.
            key_id: only those of this key; None for all.

        Returns:
            The jobs, without what the client sent and got: `input` is empty and `output`, `webhook`, `bucket` and
            `progress` are None, a long `error` is cut. And the place from which on there are more; None at the end.
        """
        ...

    async def take_chunks(self, endpoint_id: str, job_id: str, key_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """The job and the chunks that were not yet handed to this reader, in the order they came.

        Waits up to `timeout_s` seconds for the first chunk or the end of the job. Whoever sees the end has been handed
        everything that came before it. What an attempt sent goes when its job is back in the queue, the rest with the
        erasure of the job.

        Args:
            endpoint_id: its endpoint.
            job_id: whose chunks.
            key_id: the reader. Several calls with one key share the chunks; those of another key take nothing away.
            timeout_s: see above.

        Raises:
            UnknownJob: no such job on that endpoint.
        """
        ...

    async def chunks_after(
        self, endpoint_id: str, job_id: str, position: int, timeout_s: float
    ) -> tuple[Job, list[Any], int]:
        """As `take_chunks`, for a reader that keeps its position itself: 0, and then what the call before returned."""
        ...

    async def cancel(self, endpoint_id: str, job_id: str) -> Job:
        """Make a job CANCELLED unless it is terminal already, and tell its worker through `ClaimStore.wait_for_stops`.

        Returns:
            The job afterwards; of a job that was terminal already, unchanged.

        Raises:
            UnknownJob: no such job on that endpoint.
        """
        ...

    async def retry(self, endpoint_id: str, job_id: str) -> Job:
        """Put a FAILED or TIMED_OUT job back into the queue under its id, as if it had never run.

        Raises:
            Conflict: the job is in another state, or never was in the queue; nothing changed.
            OverBudget: its key cannot pay for it any more.
            UnknownJob: no such job on that endpoint.
        """
        ...

    async def purge(self, endpoint_id: str, key_id: str | None = None) -> int:
        """Make every waiting job of an endpoint (and key, unless None) CANCELLED; running ones go on.

        Returns how many.
        """
        ...

    async def counts(self, endpoint_id: str, key_id: str | None = None) -> JobCounts:
        """How many jobs of an endpoint (and key, unless None) stand where.

        TIMED_OUT counts as failed, CANCELLED as nothing, and so does a request that was refused at the door.
        """
        ...


class ClaimStore(Protocol):
    """The durable queue, for those who work on jobs, and for those who take jobs back from the lost."""

    async def claim(
        self,
        worker_id: str,
        endpoint_ids: Collection[str],
        limit: int,
        lease_s: float,
        at_most: int | None = None,
        affinity: Affinity | None = None,
    ) -> list[Claim]:
        """Hand up to `limit` waiting jobs to one worker, oldest first.

        No job is ever held by two workers. A claim not renewed within `lease_s` seconds is taken back by `sweep`.
        Empty when nothing waits; never blocks. With `at_most`, only jobs of at most so much `picture_work` and not of
        low priority, and only among the first few that wait. With `affinity`, among these in the order of `in_turn`.
        """
        ...

    async def get(self, job_id: str, endpoint_ids: Collection[str]) -> Job:
        """A job as a worker names it.

        Raises:
            UnknownJob: no such job on one of the endpoints, or its time is over.
        """
        ...

    async def wait_for_jobs(self, endpoint_ids: Collection[str], timeout_s: float, at_most: int | None = None) -> bool:
        """Return True when a job may be waiting on one of the endpoints, False after `timeout_s` seconds.

        With `at_most`, a job that `claim` would then hand out.

        A job enqueued after the call began is found by the next call at the latest, which begins with a look; one
        enqueued before it must be found with `claim` first.
        """
        ...

    async def renew(self, worker_id: str, job_ids: Collection[str], lease_s: float) -> frozenset[str]:
        """Extend the leases a worker still holds.

        Returns:
            Those of `job_ids` that the worker does not hold (any more): it must stop them.
        """
        ...

    async def finish(self, job_id: str, worker_id: str, token: int | None, outcome: Outcome) -> Job:
        """End a claim. For `Completed`, status, output and ledger row are written in one transaction.

        `Returned` puts the job back at its old place in the queue without counting a retry. Repeating a report of
        `Completed` or `Failed` that was already written by the same worker and token changes nothing and returns
        the job.

        Args:
            job_id: the claimed job.
            worker_id: who reports.
            token: `Claim.token`; None from third-party workers, whose protocol has no place for it (then the worker id
                alone must match).
            outcome: how the work went.

        Raises:
            LeaseLost: the job is not held by this worker and token: it was cancelled, finished or handed on. Or its
                time to live is over, so that nobody could read the result: `sweep` ends it, and nothing is charged.
            UnknownJob: no such job.
        """
        ...

    async def append_chunk(
        self,
        job_id: str,
        worker_id: str,
        token: int | None,
        output: Any,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep something a running job sends its client before the end; `output` is any JSON value but null.

        Args:
            job_id: the running job.
            worker_id: who reports.
            token: see `finish`.
            output: goes to the client as it is.
            progress: becomes `Job.progress` in the same transaction; None leaves that as it was.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        ...

    async def set_progress(self, job_id: str, worker_id: str, token: int | None, progress: Mapping[str, Any]) -> None:
        """Keep the latest news of a running job in place of those before.

        Args:
            job_id: the running job.
            worker_id: who reports.
            token: see `finish`.
            progress: becomes `Job.progress`.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        ...

    async def wait_for_stops(self, worker_id: str, timeout_s: float) -> list[str]:
        """Ids of jobs this worker must stop, each told once; waits up to `timeout_s` seconds for the first."""
        ...

    async def hand_over(
        self, job_id: str, worker_id: str, token: int | None, holder: str, lease_s: float
    ) -> Job | None:
        """Let somebody else hold a running job from now on, in the same attempt and with the same token.

        `Job.drawn_by` then names the worker.

        Returns:
            The job; None when this worker's picture for this claim was taken before.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        ...

    async def release(self, worker_id_prefix: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        """Take all jobs back from the workers whose id starts so, because they are known to be gone.

        With `counts_as_retry` a job that was already re-dispatched `max_retries` times becomes FAILED.
        """
        ...

    async def release_worker(self, worker_id: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        """Take all jobs back from one worker, which cannot work or leaves; see `release`."""
        ...

    async def release_jobs(
        self, worker_id: str, job_ids: Collection[str], *, counts_as_retry: bool, max_retries: int, error: str
    ) -> SweepResult:
        """Take some jobs back from one worker, which goes on with others or has left; what it does not hold stays.

        Args:
            worker_id: who holds them.
            job_ids: which.
            counts_as_retry: as in `release`.
            max_retries: as in `release`.
            error: of a job that becomes FAILED.
        """
        ...

    async def sweep(self, max_retries: int, *, spares_leases: bool = False) -> SweepResult:
        """Make TIMED_OUT what ran or lived longer than its policy allows; take back every job whose lease has expired.

        Args:
            max_retries: a job that was re-dispatched so often before becomes FAILED.
            spares_leases: take no job back, since nobody could renew a lease lately.
        """
        ...
