"""What a client can do with an endpoint: submit a job, wait for it, read it, cancel it."""

import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest, StoreUnavailable, UnknownEndpoint, UnknownJob
from flux_endpoint.core.job import DEFAULT_TTL_MS, Cursor, IdempotencyKey, Job, JobCounts, JobStatus
from flux_endpoint.core.limits import MAX_QUEUED
from flux_endpoint.core.outbound import PUBLIC_ONLY, OutboundRules
from flux_endpoint.core.pricing import units_to_usd
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.submission import Receipt, Submission
from flux_endpoint.service.limits import QueueCap
from flux_endpoint.service.sources import Asked, Sources
from flux_endpoint.stores.activity.protocol import ActivityStore
from flux_endpoint.stores.jobs.protocol import EndOf, JobStore

_MAX_KEY_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class Retention:
    """How long after its end a job can be read, milliseconds; None keeps it. The defaults are Runpod's.

    Attributes:
        run_ms: of `/run`.
        runsync_ms: of `/runsync`.
        draft_ms: of a draft at least, so that it can be finished for as long as its picture is kept.
    """

    run_ms: int | None = 1_800_000
    runsync_ms: int | None = 60_000
    draft_ms: int = 0


class Endpoints:
    """The endpoints served here.

    Args:
        store: where jobs are kept.
        activity: tells how many of them wait.
        catalog: the endpoints, by id.
        clock: stamps submissions.
        sources: keeps the pictures that clients send.
        ask_for_job: counts a job that a key asks for; what it raises keeps the job out.
        retention: how long ended jobs can be read.
        max_queued: how many jobs of one endpoint may wait.
        outbound: which places clients may name.
    """

    def __init__(
        self,
        store: JobStore,
        activity: ActivityStore,
        catalog: Mapping[str, EndpointSpec],
        clock: Clock,
        sources: Sources,
        ask_for_job: Callable[[ApiKey], Awaitable[None]],
        retention: Retention = Retention(),
        max_queued: int = MAX_QUEUED,
        outbound: OutboundRules = PUBLIC_ONLY,
    ) -> None:
        self.store = store
        self.clock = clock
        self.sources = sources
        self.ask_for_job = ask_for_job
        self.retention = retention
        self.cap = QueueCap(activity, clock, max_queued)
        self.outbound = outbound
        self._catalog = catalog

    @property
    def specs(self) -> Collection[EndpointSpec]:
        """What is served here, the most important first."""
        return self._catalog.values()

    def spec(self, endpoint_id: str) -> EndpointSpec:
        """The catalogue entry of an endpoint.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        try:
            return self._catalog[endpoint_id]
        except KeyError:
            served = ", ".join(sorted(self._catalog))
            raise UnknownEndpoint(f"unknown endpoint '{endpoint_id[:80]}'; served here: {served}") from None

    def opened(self, endpoint_id: str, key: ApiKey) -> "Endpoint":
        """An endpoint as a key may use it.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        spec = self._catalog.get(endpoint_id) or self.spec(endpoint_id)
        return Endpoint(endpoint_id, spec, key, self.outbound, self.store.ending, self, self.store)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint as one API key may use it. A job that the key does not see does not exist.

    Attributes:
        id: in URLs.
        spec: what the endpoint is.
        key: who asks.
        outbound: which places clients may name.
        ending: for who submits a job in the block, and waits for its end there; see `JobStore.ending`.
    """

    id: str
    spec: EndpointSpec
    key: ApiKey
    outbound: OutboundRules
    ending: Callable[[str, float], contextlib.AbstractContextManager[EndOf]]
    _house: Endpoints
    _store: JobStore

    async def submit(self, submission: Submission, receipt: Receipt) -> Job:
        """Queue a job.

        Returns:
            A job that is IN_QUEUE and durable; that of an earlier request if this one repeats it.

        Raises:
            InvalidParameter: a picture that it is to be drawn from cannot be had, or is none.
            Conflict: the Idempotency-Key came with another request before.
            ResultErased: it came with this request, for a job that can no longer be read.
            TooManyRequests: the queue of the endpoint is full, or the key asks for too many jobs.
            OverBudget: the key cannot pay for the job.
            StoreUnavailable: with the id of the job, if that may have been written.
        """
        known_by = None
        if receipt.idempotency_key is not None:
            known_by = IdempotencyKey(receipt.idempotency_key, submission.fingerprint)
            # Before all limits: whoever repeats a request, because the answer was lost, asks for nothing new.
            if (job := await self._store.find_submitted(self.id, self.key.id, known_by)) is not None:
                return job
            await self._house.ask_for_job(self.key)
        await self._house.cap.require_room(self.id)
        if submission.sent is not None:
            [submission] = await self.settled([submission])
        job = self._made(submission, receipt)
        try:
            return await self._store.enqueue(job, known_by)
        except StoreUnavailable as error:
            error.made_id = job.id
            raise

    async def settled(self, asked: Sequence[Asked], *, keeps: bool = True, numbered: bool = False) -> list[Asked]:
        """Requests with their pictures; see `Sources.settled`."""
        return await self._house.sources.settled(self.spec, asked, keeps=keeps, numbered=numbered)

    async def refuse(self, reason: str, receipt: Receipt) -> Job:
        """Record a request that is wrong, as a FAILED job that costs nothing.

        It is durable too, so that clients which took its id for accepted find the reason under it.

        Raises:
            TooManyRequests: the key asks for too many jobs.
        """
        if receipt.idempotency_key is not None:
            await self._house.ask_for_job(self.key)
        now_ms = self._house.clock.now_ms()
        retention_ms = self._retention_ms(receipt)
        job = Job(
            id=receipt.job_id,
            endpoint_id=self.id,
            status=JobStatus.FAILED,
            input={},
            key_id=self.key.id,
            cost_usd=units_to_usd(0),
            created_ms=now_ms,
            queued_ms=now_ms,
            finished_ms=now_ms,
            error=reason,
            retention_ms=retention_ms,
            expires_ms=None if retention_ms is None else now_ms + retention_ms,
            dialect=receipt.dialect,
        )
        return await self._store.enqueue(job)

    def _made(self, submission: Submission, receipt: Receipt) -> Job:
        now_ms = self._house.clock.now_ms()
        ttl_ms = submission.policy.ttl_ms
        fields = submission.input
        if isinstance(fields, RawJson):
            # That of another endpoint may be as long as it likes, and hold anything.
            fields = fields.value if self.spec.makes_pictures else {}
        is_draft = bool(fields.get("stop_after")) and self.spec.makes_pictures
        return Job(
            id=receipt.job_id,
            endpoint_id=self.id,
            status=JobStatus.IN_QUEUE,
            input=submission.input,
            key_id=self.key.id,
            cost_usd=submission.cost_usd,
            created_ms=now_ms,
            queued_ms=now_ms,
            policy=submission.policy,
            webhook=submission.webhook,
            bucket=submission.bucket,
            retention_ms=self._retention_ms(receipt, is_draft=is_draft),
            expires_ms=now_ms + (DEFAULT_TTL_MS if ttl_ms is None else ttl_ms),
            origin=receipt.origin,
            dialect=receipt.dialect,
            warnings=submission.warnings,
            traceparent=receipt.traceparent,
        )

    def _retention_ms(self, receipt: Receipt, *, is_draft: bool = False) -> int | None:
        retention = self._house.retention
        usual_ms = retention.runsync_ms if receipt.is_held else retention.run_ms
        return usual_ms if usual_ms is None or not is_draft else max(usual_ms, retention.draft_ms)

    async def status(self, job_id: str) -> Job:
        """Read a job.

        Raises:
            UnknownJob: no such job on it; so for all that follows.
        """
        job = await self._store.get(self.id, job_id)
        if self.key.sees_only not in (None, job.key_id):
            raise UnknownJob.on(self.id, job_id)
        return job

    async def let_vanish(self, job_id: str, ttl_ms: int) -> Job:
        """Let a job vanish so many milliseconds from now."""
        await self._require_sight(job_id)
        return await self._store.set_ttl(self.id, job_id, ttl_ms)

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is terminal, or as it stands after `timeout_s` seconds."""
        await self._require_sight(job_id)
        return await self._store.wait(self.id, job_id, timeout_s)

    async def recent(
        self, statuses: Collection[JobStatus], limit: int, before: Cursor | None
    ) -> tuple[list[Job], Cursor | None]:
        """A page of the jobs that the key sees, newest first, and where the next begins; None after the last."""
        return await self._store.recent(self.id, statuses, limit, before, self.key.sees_only)

    async def stream(self, job_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """The job and what it has sent since the key asked last; waits up to `timeout_s` seconds for news."""
        await self._require_sight(job_id)
        return await self._store.take_chunks(self.id, job_id, self.key.id, timeout_s)

    async def stream_after(self, job_id: str, position: int, timeout_s: float) -> tuple[Job, list[Any], int]:
        """The job, what it has sent after a position, and the position after that; else as `stream`."""
        await self._require_sight(job_id)
        return await self._store.chunks_after(self.id, job_id, position, timeout_s)

    async def cancel(self, job_id: str) -> Job:
        """Stop a job wherever it is; a finished one stays as it is and is returned."""
        await self._require_sight(job_id)
        return await self._store.cancel(self.id, job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue a FAILED or TIMED_OUT job again, under its id and with its seed; paid by the key that made it.

        Raises:
            Conflict: the job is in another state.
        """
        await self._require_sight(job_id)
        with perhaps_made(job_id):
            return await self._store.retry(self.id, job_id)

    async def purge(self) -> int:
        """Cancel every waiting job that the key sees; running ones go on. Returns how many."""
        return await self._store.purge(self.id, self.key.sees_only)

    async def counts(self) -> JobCounts:
        """How many jobs that the key sees stand where."""
        return await self._store.counts(self.id, self.key.sees_only)

    async def _require_sight(self, job_id: str) -> None:
        """Refuse a job that the key does not see, before anything is done to it: its key never changes."""
        if self.key.sees_only is not None:
            await self.status(job_id)


@contextlib.contextmanager
def perhaps_made(made_id: str) -> Iterator[None]:
    """While a job or batch is written: should the database go away meanwhile, the error has its id."""
    try:
        yield
    except StoreUnavailable as error:
        error.made_id = made_id
        raise


def check_idempotency_key(text: str) -> str:
    """The text, if it can be an Idempotency-Key.

    Raises:
        InvalidRequest: it is empty, too long or unprintable.
    """
    if not (0 < len(text) <= _MAX_KEY_CHARS and text.isprintable()):
        raise InvalidRequest(f"the header Idempotency-Key must have 1 to {_MAX_KEY_CHARS} printable characters")
    return text
