"""What a worker can do: take a job, keep its lease, report the end."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flux_endpoint.core import ids
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest, UnknownEndpoint, UnknownJob
from flux_endpoint.core.generation import ImageFormat
from flux_endpoint.core.job import Claim, Failed, JobStatus, Outcome, Returned
from flux_endpoint.core.progress import PREVIEW, read_progress, without_preview
from flux_endpoint.service.gallery import Gallery
from flux_endpoint.stores.protocol import JobStore, SweepResult

logger = logging.getLogger(__name__)

# Runpod re-dispatches the job of a lost worker once.
MAX_RETRIES: Final = 1
# First bytes of the two formats; what else a worker uploads is refused.
_MAGIC: Final = {ImageFormat.PNG: b"\x89PNG\r\n\x1a\n", ImageFormat.JPEG: b"\xff\xd8\xff"}


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """How many workers of an endpoint are in each state, by Runpod's names; `ready` are idle or running."""

    idle: int = 0
    initializing: int = 0
    ready: int = 0
    running: int = 0
    throttled: int = 0
    unhealthy: int = 0


@dataclass(slots=True)
class _Worker:
    endpoint_ids: frozenset[str]
    seen_ms: int
    has_taken: bool = False
    # Endpoint ids by the ids of the jobs it holds.
    jobs: dict[str, str] = field(default_factory=dict)


class Workforce:
    """The worker protocol, without its HTTP.

    Args:
        store: the queue.
        gallery: where pictures go.
        catalog: the endpoints served here, by id.
        clock: tells which workers have gone silent.
        lease_s: how long a claim lasts unless renewed.
    """

    def __init__(
        self, store: JobStore, gallery: Gallery, catalog: Mapping[str, EndpointSpec], clock: Clock, lease_s: float = 30
    ) -> None:
        self._store = store
        self._gallery = gallery
        self._catalog = catalog
        self._clock = clock
        self._lease_s = lease_s
        self._workers: dict[str, _Worker] = {}
        self._lost: set[str] = set()

    @property
    def lease_ms(self) -> int:
        """How long a claim lasts unless renewed."""
        return round(self._lease_s * 1_000)

    async def take(self, worker_id: str, endpoint_ids: Collection[str], hold_s: float) -> Claim | None:
        """The oldest waiting job of these endpoints, as soon as there is one; None after `hold_s` seconds.

        Raises:
            UnknownEndpoint: one of the endpoints is not served here.
        """
        worker = self._seen(worker_id, endpoint_ids)
        worker.has_taken = True
        deadline_ms = self._clock.now_ms() + round(hold_s * 1_000)
        while worker_id not in self._lost:
            # Looking costs a fraction of a claim that finds nothing, which is a transaction.
            left_s = max(0.0, (deadline_ms - self._clock.now_ms()) / 1_000)
            if not await self._store.wait_for_work(endpoint_ids, left_s):
                break
            claims = await self._claim_or_give_back(worker_id, endpoint_ids)
            if claims:
                worker.jobs[claims[0].job.id] = claims[0].job.endpoint_id
                return claims[0]
        return None

    async def send_chunk(self, worker_id: str, job_id: str, token: int | None, result: Mapping[str, Any]) -> None:
        """Pass something on to the client of a running job before its end.

        Raises:
            InvalidRequest: the result has no `output`.
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        if result.get("output") is None:
            raise InvalidRequest("Invalid request: a stream chunk must have an 'output'")
        chunk = result["output"]
        progress = read_progress(chunk)
        if progress is not None and PREVIEW in progress:
            # Chunks wait until somebody reads them: pictures must not pile up.
            chunk = without_preview(chunk)
        await self._store.append_chunk(job_id, worker_id, token, chunk, progress)

    async def deliver(
        self,
        endpoint_ids: Collection[str],
        worker_id: str,
        job_id: str,
        token: int | None,
        data: bytes,
        warnings: Sequence[str],
    ) -> None:
        """End a job with its picture. A picture whose report is refused is nobody's, and goes with its retention.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who reports.
            job_id: the claimed job.
            token: see `JobStore.finish`.
            data: the file.
            warnings: sentences for the client; usually none.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            InvalidRequest: the bytes are neither a PNG nor a JPEG.
            UnknownJob: no such job.
        """
        output: dict[str, Any] = {"image_key": await self._save(data)}
        if warnings:
            output["warnings"] = list(warnings)
        await self.done(endpoint_ids, worker_id, job_id, token, {"output": output})

    async def done(
        self,
        endpoint_ids: Collection[str],
        worker_id: str,
        job_id: str,
        token: int | None,
        result: Mapping[str, Any],
    ) -> None:
        """Take a worker's report: the end of a job, or only a sign of life while it runs.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who reports.
            job_id: the claimed job.
            token: see `JobStore.finish`.
            result: the report, in the form of contract section 5.3.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        if result.get("status") == JobStatus.IN_PROGRESS.value:
            await self.ping(worker_id, [job_id])
            return
        worker = self._workers.get(worker_id)
        endpoint_id = worker.jobs.get(job_id) if worker else None
        spec = self._catalog[endpoint_id or await self._endpoint_of(job_id, endpoint_ids)]
        await self._store.finish(job_id, worker_id, token, _outcome_of(result, spec))
        if worker:
            worker.jobs.pop(job_id, None)
            worker.seen_ms = self._clock.now_ms()

    async def ping(self, worker_id: str, job_ids: Collection[str]) -> frozenset[str]:
        """Renew the leases of a worker; returns the jobs it named that are no longer its own."""
        not_held = await self._store.renew(worker_id, job_ids, self._lease_s) if job_ids else frozenset()
        worker = self._workers.get(worker_id)
        if worker:
            worker.seen_ms = self._clock.now_ms()
            for job_id in worker.jobs.keys() - (set(job_ids) - not_held):
                del worker.jobs[job_id]
        return not_held

    async def stops(self, worker_id: str, hold_s: float) -> list[str]:
        """Jobs this worker must stop, each told once; waits up to `hold_s` seconds for the first."""
        stops = await self._store.wait_for_stops(worker_id, hold_s)
        worker = self._workers.get(worker_id)
        if worker:
            for job_id in stops:
                worker.jobs.pop(job_id, None)
        return stops

    def expect(self, worker_id: str, endpoint_ids: Collection[str]) -> None:
        """Note that a worker is being started; it counts as initializing until it first asks for a job."""
        self._seen(worker_id, endpoint_ids)

    async def lost(self, worker_id: str) -> SweepResult:
        """A worker is known to be dead: its jobs go back to the queue, or fail when that happened before."""
        self._lost.add(worker_id)
        self._workers.pop(worker_id, None)
        return self._log(await self._store.release(worker_id, counts_as_retry=True, max_retries=MAX_RETRIES))

    async def recover(self, worker_id_prefix: str) -> SweepResult:
        """After a restart: jobs that the workers of the process before held go back to the queue, unblamed."""
        return self._log(await self._store.release(worker_id_prefix, counts_as_retry=False, max_retries=MAX_RETRIES))

    async def sweep(self) -> SweepResult:
        """Take back jobs whose lease ran out, and forget workers that have been silent for long."""
        gone_ms = self._clock.now_ms() - 10 * self.lease_ms
        self._workers = {name: worker for name, worker in self._workers.items() if worker.seen_ms > gone_ms}
        return self._log(await self._store.sweep(MAX_RETRIES))

    def counts(self, endpoint_id: str) -> WorkerCounts:
        """How many workers of an endpoint are in each state."""
        silent_ms = self._clock.now_ms() - 2 * self.lease_ms
        idle = initializing = running = unhealthy = 0
        for worker in self._workers.values():
            if endpoint_id not in worker.endpoint_ids:
                continue
            if worker.seen_ms < silent_ms:
                unhealthy += 1
            elif not worker.has_taken:
                initializing += 1
            elif worker.jobs:
                running += 1
            else:
                idle += 1
        return WorkerCounts(
            idle=idle, initializing=initializing, ready=idle + running, running=running, unhealthy=unhealthy
        )

    async def _save(self, data: bytes) -> str:
        for image_format, magic in _MAGIC.items():
            if data.startswith(magic):
                key = ids.new_image_key(image_format.extension)
                await self._gallery.save(key, data)
                return key
        raise InvalidRequest("the uploaded bytes are neither a PNG nor a JPEG file")

    async def _claim_or_give_back(self, worker_id: str, endpoint_ids: Collection[str]) -> list[Claim]:
        claiming = asyncio.ensure_future(self._store.claim(worker_id, endpoint_ids, 1, self._lease_s))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The worker hung up while the claim was being written: without this the job would wait for its lease.
            for claim in await claiming:
                await self._store.finish(claim.job.id, worker_id, claim.token, Returned())
            raise

    async def _endpoint_of(self, job_id: str, endpoint_ids: Collection[str]) -> str:
        """Which of the endpoints a job is on that this process did not hand out itself."""
        for endpoint_id in self._catalog.keys() & set(endpoint_ids):
            with contextlib.suppress(UnknownJob):
                return (await self._store.get(endpoint_id, job_id)).endpoint_id
        raise UnknownJob(f"There is no job {job_id}")

    def _seen(self, worker_id: str, endpoint_ids: Collection[str]) -> _Worker:
        unknown = sorted(set(endpoint_ids) - self._catalog.keys())
        if unknown or not endpoint_ids:
            raise UnknownEndpoint(f"unknown endpoint '{', '.join(unknown)[:80]}'")
        worker = self._workers.setdefault(worker_id, _Worker(frozenset(endpoint_ids), 0))
        worker.seen_ms = self._clock.now_ms()
        return worker

    def _log(self, result: SweepResult) -> SweepResult:
        for job_id in result.requeued:
            logger.warning("job %s lost its worker and waits again", job_id)
        for job_id in result.failed:
            logger.error("job %s lost its worker once too often and failed", job_id)
        for job_id in result.timed_out:
            logger.warning("job %s timed out", job_id)
        return result


def _outcome_of(result: Mapping[str, Any], spec: EndpointSpec) -> Outcome:
    """Read a report in the form of contract section 5.3."""
    if result.get("returned") is True:
        return Returned()
    error = result.get("error")
    if error is not None:
        return Failed(error if isinstance(error, str) else str(error))
    return spec.conclude(result.get("output"))
