"""What a worker can do: take a job, keep its lease, hear what to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import UnknownEndpoint
from flux_endpoint.core.job import Claim, Returned, SweepResult
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.worker import WorkerState
from flux_endpoint.service.job_reports import JobReports
from flux_endpoint.service.known_worker import KnownWorker
from flux_endpoint.service.losses import Losses
from flux_endpoint.service.own_workers import OwnWorkers
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.waiting import happens, unless
from flux_endpoint.service.worker_memory import WorkerMemory
from flux_endpoint.service.worker_registry import WorkerCounts, WorkerRegistry, WorkerView
from flux_endpoint.stores.jobs.protocol import ClaimStore
from flux_endpoint.stores.workers.protocol import WorkerStore

logger = logging.getLogger(__name__)

# An idle worker that waits here has claimed a new job by then.
_IDLE_FIRST_S: Final = 0.02


class Workforce:
    """The worker protocol, without its HTTP.

    Worker ids are those of `worker_name`: they hold the token's id, so that nobody passes for the worker of another
    token. What a worker reports of a job goes to the attribute `reports`, and what the gateway's own fleet tells to
    `own`.

    Args:
        store: the queue.
        workers: what all gateways on one database know of the workers.
        pictures: where pictures go.
        catalog: the endpoints served here, by id.
        clock: tells which workers have gone silent.
        lease_s: how long a claim lasts unless renewed; also as the attribute `lease_ms`.
        on_leaving: awaited with the id of a worker that asks to be restarted.
        stop_grace_s: how long a worker of this machine may go on after its job is over.
        on_stuck: awaited with the id of a worker of this machine that must be ended, and why.
    """

    def __init__(
        self,
        store: ClaimStore,
        workers: WorkerStore,
        pictures: Pictures,
        catalog: Mapping[str, EndpointSpec],
        clock: Clock,
        lease_s: float = 30,
        on_leaving: Callable[[str], Awaitable[None]] | None = None,
        stop_grace_s: float = 120,
        on_stuck: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._lease_s = lease_s
        self.lease_ms = round(lease_s * 1_000)
        self._on_leaving = on_leaving
        self._registry = WorkerRegistry(workers, clock, self.lease_ms)
        self.reports = JobReports(store, pictures, catalog, self._registry)
        self.memory = WorkerMemory(self._registry)
        self._losses = Losses(store, self._registry, round(stop_grace_s * 1_000), on_stuck)
        self.own = OwnWorkers(self._registry, self._losses)
        # By `monotonic_ms`. The clock is being set; leases could not be renewed.
        self._clock_set_until_ms = self._spared_until_ms = 0

    async def take(
        self,
        worker_id: str,
        endpoint_ids: Collection[str],
        hold_s: float,
        limit: int = 1,
        check_right: Callable[[], Awaitable[object]] | None = None,
        fingerprint: str = "",
        is_free: bool = False,
        at_most: int | None = None,
    ) -> list[Claim]:
        """Up to `limit` of the oldest waiting jobs of these endpoints, as soon as there is one; or none in the end.

        A worker that is unhealthy, or was to be restarted and was not, gets none. One that is busy, or throttled, gets
        what idle ones leave.

        Args:
            worker_id: who asks.
            endpoint_ids: the endpoints it serves.
            hold_s: seconds to wait for the first job.
            limit: at most so many.
            check_right: awaited before each claim; raises when the worker's token is revoked meanwhile.
            fingerprint: of the kind of worker it is; empty when it does not say.
            is_free: the worker says that it runs no job: what it was handed before, it has ended without a report.
            at_most: see `ClaimStore.claim`.

        Raises:
            UnknownEndpoint: one of the endpoints is not served here.
        """
        self._check_endpoints(endpoint_ids)
        worker = await self._registry.begin_take(worker_id, endpoint_ids, fingerprint)
        if is_free and (job_ids := worker.unreported()):
            await self._losses.take_back_unreported(worker, job_ids)
        began_ms, ends_s = worker.called_ms, asyncio.get_running_loop().time() + hold_s
        is_first = is_free and not worker.is_throttled
        with self._registry.holding(worker, is_take=True, is_free=is_free):
            while worker_id not in self.own.gone:
                if not worker.available.is_set():
                    if await happens(worker.available, ends_s - asyncio.get_running_loop().time()):
                        continue
                    break
                if not await self._wait_for_work(endpoint_ids, ends_s, is_first, at_most):
                    break
                if not worker.available.is_set():
                    continue
                if worker.seems_to_leave(self._clock, began_ms):
                    break
                if check_right:
                    await check_right()
                claims = await self._claim_or_give_back(worker, endpoint_ids, limit, at_most)
                if claims:
                    return claims
        return []

    async def let_leave(self, worker_id: str, endpoint_ids: Collection[str]) -> None:
        """A worker asks to be restarted: it gets no jobs until it has been."""
        logger.info("worker %s asks to be restarted and gets no jobs until it has been", worker_id)
        worker = await self._registry.see(worker_id, endpoint_ids)
        await self._registry.move(worker, WorkerState.LEAVING, "asked to be restarted")
        if self._on_leaving:
            await self._on_leaving(worker.id)

    async def ping(self, worker_id: str, endpoint_ids: Collection[str], job_ids: Collection[str]) -> frozenset[str]:
        """Renew the leases of a worker, which is well; returns the jobs it named that are no longer its own.

        Those of a worker that has hung up are not renewed.

        Raises:
            UnknownEndpoint: one of the endpoints is not served here.
        """
        self._check_endpoints(endpoint_ids)
        worker = await self._registry.see(worker_id, endpoint_ids, is_ping=True)
        if worker.state is WorkerState.UNHEALTHY:
            logger.warning("worker %s is well again", worker_id)
            await self._registry.move(worker, WorkerState.READY)
        worker.check_pinged(job_ids, self._clock.monotonic_ms())
        if await self._registry.has_hung_up(worker):
            return frozenset(job_ids)
        not_held = await self._store.renew(worker_id, job_ids, self._lease_s) if job_ids else frozenset()
        for job_id in not_held:
            worker.jobs.pop(job_id, None)
        return not_held

    async def note_step(self, worker_id: str, step_us: int) -> None:
        """A worker tells what one step of its calibration took, microseconds."""
        await self._registry.note_step(worker_id, step_us)

    async def ping_unhealthy(self, worker_id: str, endpoint_ids: Collection[str], reason: str) -> None:
        """A worker says that it cannot work: its jobs are taken back, and it gets none until it says that it is well.

        Raises:
            UnknownEndpoint: one of the endpoints is not served here.
        """
        self._check_endpoints(endpoint_ids)
        logger.error("worker %s is unhealthy: %s", worker_id, reason)
        worker = await self._registry.see(worker_id, endpoint_ids, is_ping=True)
        await self._registry.move(worker, WorkerState.UNHEALTHY, reason)
        worker.jobs.clear()
        await self._losses.release(worker_id)

    async def part(self, worker_id: str) -> None:
        """A worker says that it leaves for good: it counts no longer. One of its name may come at any time."""
        logger.info("worker %s leaves", worker_id)
        await self._losses.part(worker_id)

    async def stops(
        self, worker_id: str, endpoint_ids: Collection[str], hold_s: float, can_unload: bool = False
    ) -> list[str]:
        """Jobs this worker must stop, each told once; waits up to `hold_s` seconds for the first.

        The wait also ends when the worker is to be asked to unload and says that it can: see `WorkerMemory`.

        Raises:
            UnknownEndpoint: one of the endpoints is not served here.
        """
        self._check_endpoints(endpoint_ids)
        worker = await self._registry.see(worker_id, endpoint_ids)
        worker.can_unload = can_unload
        with self._registry.holding(worker, is_take=False):
            if worker.state is WorkerState.LEAVING:
                stops = await self._store.wait_for_stops(worker_id, hold_s)
            else:
                # A process that ends after its job is held up by this call.
                waiting = unless(worker.unloads, self._store.wait_for_stops(worker_id, hold_s))
                found = await unless(worker.leaves, waiting)
                stops = found or []
        for job_id in stops:
            worker.jobs.pop(job_id, None)
        return stops

    @property
    def lost_jobs(self) -> Mapping[str, int]:
        """How many jobs lost their worker here, by what became of them: requeued or failed."""
        return self._losses.outcomes

    @property
    def has_served(self) -> bool:
        """Whether any worker has asked this gateway for a job."""
        return self._registry.has_served.is_set()

    async def wait_served(self) -> None:
        """Wait until any worker has asked this gateway for a job."""
        await self._registry.has_served.wait()

    async def sweep(self) -> SweepResult:
        """Take back jobs whose lease ran out, forget workers that have been silent for long, end those that hang."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._clock_set_until_ms:
            await self._registry.sweep()
            return SweepResult()
        return await self._losses.sweep(spares_leases=now_ms < self._spared_until_ms)

    def spare_leases(self) -> None:
        """No lease ends for as long as one lasts: nobody was there to renew them with until now."""
        self._spared_until_ms = self._clock.monotonic_ms() + self.lease_ms

    def clock_moved(self, by_ms: int) -> None:
        """The clock was set forward, or back (below 0), and all that is kept with it.

        What was being written meanwhile, here or by a gateway that has not noticed yet, has the old time in it. So no
        lease ends for now: until then every worker that lives has renewed its own by the new one.
        """
        self._registry.clock_moved(by_ms)
        self._clock_set_until_ms = self._clock.monotonic_ms() + self.lease_ms

    async def counts(self, *endpoint_ids: str) -> WorkerCounts:
        """How many workers of any of these endpoints are in each state; each is counted once."""
        return await self._registry.counts(endpoint_ids)

    async def workers(self, *endpoint_ids: str) -> Sequence[WorkerView]:
        """The workers of any of these endpoints, by id."""
        return await self._registry.list(endpoint_ids)

    async def serves(self, endpoint_id: str) -> bool:
        """Whether any worker of an endpoint is at work, idle or starting: a job that waits there may yet run."""
        return await self._registry.serves(endpoint_id)

    async def _wait_for_work(
        self, endpoint_ids: Collection[str], ends_s: float, is_first: bool, at_most: int | None
    ) -> bool:
        """Whether a job waits that is for this worker, in time; who is not first leaves it to idle ones."""
        while True:
            left_s = ends_s - asyncio.get_running_loop().time()
            # Looking costs a fraction of a claim that finds nothing, which is a transaction.
            if not await self._store.wait_for_jobs(endpoint_ids, max(0.0, left_s), at_most):
                return False
            if is_first or not self._registry.is_idle(endpoint_ids):
                return True
            await asyncio.sleep(_IDLE_FIRST_S)
            if await self._store.wait_for_jobs(endpoint_ids, 0.0, at_most):
                return True

    async def _claim_or_give_back(
        self, worker: KnownWorker, endpoint_ids: Collection[str], limit: int, at_most: int | None
    ) -> list[Claim]:
        affinity = self._registry.affinity(worker) if self._registry.knows_loras else None
        claim = self._store.claim(worker.id, endpoint_ids, limit, self._lease_s, at_most, affinity)
        claiming = asyncio.ensure_future(claim)
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The worker hung up while the claim was being written: without this the job would wait for its lease.
            await self._give_back(await claiming)
            raise
        if not worker.available.is_set():
            # It became so while the claim was being written.
            await self._give_back(claims)
            return []
        worker.jobs |= {claim.job.id: claim.job for claim in claims}
        for job in [claim.job for claim in claims]:
            if not isinstance(job.input, RawJson) and job.input.get("loras"):
                self._registry.note_loras(worker, job)
        if claims:
            worker.handed_ms = claims[0].job.started_ms
        elif affinity and affinity.left:
            # Perhaps only what an idle worker is about to take.
            await asyncio.sleep(_IDLE_FIRST_S)
        return claims

    async def _give_back(self, claims: Collection[Claim]) -> None:
        for claim in claims:
            await self._store.finish(claim.job.id, claim.worker_id, claim.token, Returned())

    def _check_endpoints(self, endpoint_ids: Collection[str]) -> None:
        unknown = sorted(set(endpoint_ids) - self._catalog.keys())
        if unknown or not endpoint_ids:
            raise UnknownEndpoint(f"unknown endpoint '{', '.join(unknown)[:80]}'")
