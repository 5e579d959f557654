"""What a client can do: submit a job, wait for it, read it, cancel it."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core import ids
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.batch import BatchRequest
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.envelope import TTL_MS, Envelope, parse_envelope
from flux_endpoint.core.errors import InvalidRequest, StoreUnavailable, UnknownEndpoint, UnknownJob
from flux_endpoint.core.job import DEFAULT_TTL_MS, Cursor, IdempotencyKey, Job, JobCounts, JobStatus
from flux_endpoint.core.limits import MAX_QUEUED
from flux_endpoint.core.outbound import PUBLIC_ONLY, OutboundRules
from flux_endpoint.core.pricing import units_to_usd
from flux_endpoint.service.bodies import Bodies, Submission
from flux_endpoint.service.limits import QueueCap
from flux_endpoint.stores.activity.protocol import ActivityStore
from flux_endpoint.stores.jobs.protocol import JobStore

# What `/status?ttl=` may say; shorter than at submission, because the job may be over already.
READ_TTL_MS: Final = (1_000, TTL_MS[1])
_MAX_KEY_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class Retention:
    """How long after its end a job can be read, milliseconds; None keeps it. The defaults are Runpod's."""

    run_ms: int | None = 1_800_000
    runsync_ms: int | None = 60_000

    def of(self, *, sync: bool) -> int | None:
        """Milliseconds after its end for which a job of `/runsync` (or `/run`) can be read; None for ever."""
        return self.runsync_ms if sync else self.run_ms


class EndpointService:
    """The public operations, for every endpoint of a catalogue.

    Args:
        store: where jobs are kept.
        activity: tells how many of them wait.
        catalog: the endpoints served here, by id.
        clock: stamps submissions.
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
        retention: Retention = Retention(),
        max_queued: int = MAX_QUEUED,
        outbound: OutboundRules = PUBLIC_ONLY,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._retention = retention
        self._cap = QueueCap(activity, clock, max_queued)
        self._outbound = outbound
        self.bodies = Bodies()

    @property
    def specs(self) -> Collection[EndpointSpec]:
        """The endpoints served here, the most important first."""
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

    async def submit(
        self,
        endpoint_id: str,
        key_id: str,
        data: bytes,
        *,
        sync: bool,
        idempotency_key: str | None = None,
        origin: str | None = None,
        ask_for_job: Callable[[], None] = lambda: None,
    ) -> Job:
        """Check a request body and queue it.

        Args:
            endpoint_id: where to.
            key_id: the API key that pays.
            data: the JSON body; unknown keys are ignored.
            sync: whether the id shall say that it was sent to `/runsync`.
            idempotency_key: the client's Idempotency-Key: the same name and body get the same job.
            origin: see `Job`.
            ask_for_job: called unless the request repeats another; what it raises keeps the job out.

        Returns:
            A job that is IN_QUEUE and durable; or, when the body is wrong, one that FAILED on arrival, durable too,
            so that clients which took its id for accepted find the reason under it.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            Conflict: the name came with another body before.
            ResultErased: it came with this body, for a job that can no longer be read.
            TooManyRequests: the queue of the endpoint is full.
            OverBudget: the key cannot pay for the job.
            InvalidRequest: the name is empty, too long or unprintable; nothing is recorded.
            StoreUnavailable: with the id of the job, if that may have been written.
        """
        _check_idempotency_key(idempotency_key)
        try:
            read = await self.check(endpoint_id, data, has_fingerprint=idempotency_key is not None)
        except InvalidRequest as error:
            ask_for_job()
            return await self.refuse(endpoint_id, key_id, str(error), sync=sync)
        known_by = None if idempotency_key is None else IdempotencyKey(idempotency_key, read.fingerprint)
        # Before all limits: whoever repeats a request, because the answer was lost, asks for nothing new.
        if known_by is not None:
            submitted = await self._store.find_submitted(endpoint_id, key_id, known_by)
            if submitted is not None:
                return submitted
        ask_for_job()
        await self._cap.require_room(endpoint_id)
        job = self._make(endpoint_id, key_id, read, sync=sync, origin=origin)
        with perhaps_made(job.id):
            return await self._store.enqueue(job, known_by)

    def _make(self, endpoint_id: str, key_id: str, read: Submission, *, sync: bool, origin: str | None) -> Job:
        envelope, accepted = read.envelope, read.accepted
        now_ms = self._clock.now_ms()
        ttl_ms = envelope.policy.ttl_ms
        return Job(
            id=ids.new_job_id(sync=sync),
            endpoint_id=endpoint_id,
            status=JobStatus.IN_QUEUE,
            input=accepted.input,
            key_id=key_id,
            cost_usd=accepted.cost_usd,
            created_ms=now_ms,
            queued_ms=now_ms,
            policy=envelope.policy,
            webhook=envelope.webhook,
            s3_config=envelope.s3_config,
            retention_ms=self._retention.of(sync=sync),
            expires_ms=now_ms + (DEFAULT_TTL_MS if ttl_ms is None else ttl_ms),
            origin=origin,
        )

    def parse(self, body: object) -> Envelope:
        """Check what is around the `input` of a request body.

        Raises:
            InvalidRequest: it is wrong; the text names the field and its limit.
        """
        envelope = parse_envelope(body)
        self.check_places(envelope)
        return envelope

    async def check(self, endpoint_id: str, data: bytes, *, has_fingerprint: bool = False) -> Submission:
        """Check a request body and price it, without queueing anything.

        Raises:
            InvalidRequest: it is wrong; the text names the field and its limit.
            UnknownEndpoint: no such endpoint is served here.
        """
        read = await self.bodies.submission(self.spec(endpoint_id), data, has_fingerprint=has_fingerprint)
        self.check_places(read.envelope)
        return read

    async def refuse(self, endpoint_id: str, key_id: str, reason: str, *, sync: bool) -> Job:
        """Record a request that cannot be queued, as a FAILED job that costs nothing.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        now_ms = self._clock.now_ms()
        retention_ms = self._retention.of(sync=sync)
        job = Job(
            id=ids.new_job_id(sync=sync),
            endpoint_id=endpoint_id,
            status=JobStatus.FAILED,
            input={},
            key_id=key_id,
            cost_usd=units_to_usd(0),
            created_ms=now_ms,
            queued_ms=now_ms,
            finished_ms=now_ms,
            error=reason,
            retention_ms=retention_ms,
            expires_ms=None if retention_ms is None else now_ms + retention_ms,
        )
        return await self._store.enqueue(job)

    async def status(self, key: ApiKey, endpoint_id: str, job_id: str, ttl_ms: int | None = None) -> Job:
        """Read a job; with `ttl_ms`, let it vanish that many milliseconds from now.

        Args:
            key: who asks; here and below, a job that it does not see does not exist.
            endpoint_id: its endpoint.
            job_id: as answered by `submit`.
            ttl_ms: within `READ_TTL_MS`.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        if ttl_ms is None:
            return await self._get(key, endpoint_id, job_id)
        await self._require_seen(key, endpoint_id, job_id)
        return await self._store.set_ttl(endpoint_id, job_id, ttl_ms)

    async def wait(self, key: ApiKey, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is terminal, or as it stands after `timeout_s` seconds.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        await self._require_seen(key, endpoint_id, job_id)
        return await self._store.wait(endpoint_id, job_id, timeout_s)

    async def queue_position(self, job: Job) -> int | None:
        """How many jobs are before a waiting one, and it: 1 for the next; None for a job that does not wait."""
        return await self._store.queue_position(job)

    async def recent(
        self, key: ApiKey, endpoint_id: str, statuses: Collection[JobStatus], limit: int, before: Cursor | None
    ) -> tuple[list[Job], Cursor | None]:
        """A page of the jobs that the key sees, newest first, and where the next page begins; None after the last.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        return await self._store.recent(endpoint_id, statuses, limit, before, key.sees_only)

    async def stream(self, key: ApiKey, endpoint_id: str, job_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """The job and what it has sent since the key asked last; waits up to `timeout_s` seconds for news or the end.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        await self._require_seen(key, endpoint_id, job_id)
        return await self._store.take_chunks(endpoint_id, job_id, key.id, timeout_s)

    async def stream_after(
        self, key: ApiKey, endpoint_id: str, job_id: str, position: int, timeout_s: float
    ) -> tuple[Job, list[Any], int]:
        """The job, what it has sent after a position, and the position after that; else as `stream`."""
        await self._require_seen(key, endpoint_id, job_id)
        return await self._store.chunks_after(endpoint_id, job_id, position, timeout_s)

    async def cancel(self, key: ApiKey, endpoint_id: str, job_id: str) -> Job:
        """Stop a job wherever it is; a finished one stays as it is and is returned.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        await self._require_seen(key, endpoint_id, job_id)
        return await self._store.cancel(endpoint_id, job_id)

    async def retry(self, key: ApiKey, endpoint_id: str, job_id: str) -> Job:
        """Queue a FAILED or TIMED_OUT job again, under its id and with its seed; paid by the key that made it.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
            Conflict: the job is in another state.
        """
        await self._require_seen(key, endpoint_id, job_id)
        with perhaps_made(job_id):
            return await self._store.retry(endpoint_id, job_id)

    async def purge(self, key: ApiKey, endpoint_id: str) -> int:
        """Cancel every waiting job of an endpoint that the key sees; running ones go on. Returns how many.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        return await self._store.purge(endpoint_id, key.sees_only)

    async def counts(self, key: ApiKey, endpoint_id: str) -> JobCounts:
        """How many jobs of an endpoint that the key sees stand where.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        return await self._store.counts(endpoint_id, key.sees_only)

    async def _get(self, key: ApiKey, endpoint_id: str, job_id: str) -> Job:
        self.spec(endpoint_id)
        job = await self._store.get(endpoint_id, job_id)
        if key.sees_only not in (None, job.key_id):
            raise UnknownJob.on(endpoint_id, job_id)
        return job

    async def _require_seen(self, key: ApiKey, endpoint_id: str, job_id: str) -> None:
        """Refuse a job that the key does not see, before anything is done to it: its key never changes."""
        self.spec(endpoint_id)
        if key.sees_only is not None:
            await self._get(key, endpoint_id, job_id)

    def check_places(self, envelope: Envelope | BatchRequest) -> None:
        """Refuse addresses that would be refused later anyway; names are looked up only when they are called.

        Raises:
            InvalidParameter: a place is none that may be called.
        """
        if envelope.webhook is not None:
            self._outbound.check_literal("webhook", envelope.webhook)
        if envelope.s3_config is not None:
            self._outbound.check_literal("s3Config.endpointUrl", envelope.s3_config["endpointUrl"])


@contextlib.contextmanager
def perhaps_made(made_id: str) -> Iterator[None]:
    """While a job or batch is written: should the database go away meanwhile, the error has its id."""
    try:
        yield
    except StoreUnavailable as error:
        error.made_id = made_id
        raise


def _check_idempotency_key(name: str | None) -> None:
    if name is not None and not (0 < len(name) <= _MAX_KEY_CHARS and name.isprintable()):
        raise InvalidRequest(f"the header Idempotency-Key must have 1 to {_MAX_KEY_CHARS} printable characters")
