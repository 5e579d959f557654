"""What a client can do: submit a job, wait for it, read it, cancel it."""

from collections.abc import Mapping
from typing import Any

from flux_endpoint.core import ids
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest, UnknownEndpoint
from flux_endpoint.core.job import Job, JobCounts, JobStatus
from flux_endpoint.core.pricing import units_to_usd
from flux_endpoint.stores.protocol import JobStore


class EndpointService:
    """The public operations, for every endpoint of a catalogue.

    Args:
        store: where jobs are kept.
        catalog: the endpoints served here, by id.
        clock: stamps submissions.
    """

    def __init__(self, store: JobStore, catalog: Mapping[str, EndpointSpec], clock: Clock) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock

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

    async def submit(self, endpoint_id: str, key_id: str, envelope: object, *, sync: bool) -> Job:
        """Check a request body and queue it.

        Args:
            endpoint_id: where to.
            key_id: the API key that pays.
            envelope: the decoded JSON body; unknown keys are ignored.
            sync: whether the id shall say that it was sent to `/runsync`.

        Returns:
            A job that is IN_QUEUE and durable; or, when the body is wrong, one that FAILED at the door, durable too,
            so that clients which took its id for accepted find the reason under it.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        spec = self.spec(endpoint_id)
        try:
            accepted = spec.accept(_input_of(envelope))
        except InvalidRequest as error:
            return await self.refuse(endpoint_id, key_id, str(error), sync=sync)
        now_ms = self._clock.now_ms()
        job = Job(
            id=ids.new_job_id(sync=sync),
            endpoint_id=endpoint_id,
            status=JobStatus.IN_QUEUE,
            input=accepted.input,
            key_id=key_id,
            cost_usd=accepted.cost_usd,
            created_ms=now_ms,
            queued_ms=now_ms,
        )
        await self._store.enqueue(job)
        return job

    async def refuse(self, endpoint_id: str, key_id: str, reason: str, *, sync: bool) -> Job:
        """Record a request that cannot be queued, as a FAILED job that costs nothing.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        now_ms = self._clock.now_ms()
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
        )
        await self._store.enqueue(job)
        return job

    async def status(self, endpoint_id: str, job_id: str) -> Job:
        """Read a job.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        self.spec(endpoint_id)
        return await self._store.get(endpoint_id, job_id)

    async def wait(self, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is terminal, or as it stands after `timeout_s` seconds.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        self.spec(endpoint_id)
        return await self._store.wait(endpoint_id, job_id, timeout_s)

    async def stream(self, endpoint_id: str, job_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """The job and what it has sent since the last call; waits up to `timeout_s` seconds for news or the end.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        self.spec(endpoint_id)
        return await self._store.take_chunks(endpoint_id, job_id, timeout_s)

    async def cancel(self, endpoint_id: str, job_id: str) -> Job:
        """Stop a job wherever it is; a finished one stays as it is and is returned.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
        """
        self.spec(endpoint_id)
        return await self._store.cancel(endpoint_id, job_id)

    async def retry(self, endpoint_id: str, job_id: str) -> Job:
        """Queue a FAILED or TIMED_OUT job again, under its id and with its seed.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
            UnknownJob: no such job on it.
            Conflict: the job is in another state.
        """
        self.spec(endpoint_id)
        return await self._store.retry(endpoint_id, job_id)

    async def purge(self, endpoint_id: str) -> int:
        """Cancel every waiting job of an endpoint; running ones go on. Returns how many.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        return await self._store.purge(endpoint_id)

    async def counts(self, endpoint_id: str) -> JobCounts:
        """How many jobs of an endpoint stand where.

        Raises:
            UnknownEndpoint: no such endpoint is served here.
        """
        self.spec(endpoint_id)
        return await self._store.counts(endpoint_id)


def _input_of(envelope: object) -> Mapping[str, Any]:
    if not isinstance(envelope, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'input'")
    if "input" not in envelope:
        raise InvalidRequest("Invalid request: the body has no 'input'")
    fields = envelope["input"]
    if not isinstance(fields, Mapping):
        raise InvalidRequest("Invalid request: 'input' must be a JSON object")
    return fields
