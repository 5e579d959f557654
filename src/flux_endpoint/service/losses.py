"""What becomes of the jobs of a worker that is lost, and of a worker that hangs."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from flux_endpoint.core.job import SweepResult
from flux_endpoint.service.known_worker import KnownWorker
from flux_endpoint.service.worker_registry import WorkerRegistry
from flux_endpoint.stores.jobs.protocol import ClaimStore

logger = logging.getLogger(__name__)

# Runpod re-dispatches the job of a lost worker once.
_MAX_RETRIES: Final = 1
_UNREPORTED: Final = (
    "the worker ended the job without a report that reached this server: its result may be no JSON, or the worker was "
    "started anew; its log says more"
)


class Losses:
    """Takes jobs back, and has workers of this machine ended.

    Args:
        store: the queue.
        registry: the workers.
        stop_grace_ms: how long a worker of this machine may go on after its job is over.
        on_stuck: awaited with the id of a worker of this machine that must be ended, and why.
    """

    def __init__(
        self,
        store: ClaimStore,
        registry: WorkerRegistry,
        stop_grace_ms: int,
        on_stuck: Callable[[str, str], Awaitable[None]] | None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._stop_grace_ms = stop_grace_ms
        self._on_stuck = on_stuck
        # What became of jobs whose worker or lease was lost, for the metrics.
        self.outcomes = Counter({"requeued": 0, "failed": 0})

    async def lost(self, worker_id: str) -> SweepResult:
        """Take back the jobs of a dead worker; one that lost a worker before fails. Returns what became of them."""
        await self._registry.drop(worker_id)
        return self._log(await self._store.release(worker_id, counts_as_retry=True, max_retries=_MAX_RETRIES))

    async def recover(self, worker_id_prefix: str) -> SweepResult:
        """After a restart: jobs that the workers of the process before held go back to the queue, unblamed."""
        await self._registry.drop(worker_id_prefix)
        return self._log(await self._store.release(worker_id_prefix, counts_as_retry=False, max_retries=_MAX_RETRIES))

    async def release(self, worker_id: str) -> SweepResult:
        """Take back the jobs of a worker that lives but cannot work, as for a dead one."""
        return self._log(await self._store.release_worker(worker_id, counts_as_retry=True, max_retries=_MAX_RETRIES))

    async def part(self, worker_id: str) -> None:
        """A worker leaves by its own account: what it still holds waits again, unblamed.

        Of two processes that use one name, the other stays, and with it all that is held in that name.
        """
        if (worker := self._registry.get(worker_id)) is not None and worker.is_shared:
            return
        await self._registry.part(worker_id)
        self._log(await self._store.release_worker(worker_id, counts_as_retry=False, max_retries=_MAX_RETRIES))

    async def take_back_unreported(self, worker: KnownWorker, job_ids: Collection[str]) -> None:
        """A worker says that it runs nothing: these jobs have ended without a report, or never reached it."""
        logger.warning("worker %s asks for a job and has not reported %s", worker.id, ", ".join(job_ids))
        worker.taken_back = dict.fromkeys(job_ids, worker.seen_ms)
        await self._take_back(worker, job_ids, counts_as_retry=True)

    async def sweep(self, spares_leases: bool = False) -> SweepResult:
        """Take back jobs whose lease ran out, forget workers that have been silent for long, end those that hang.

        With `spares_leases` no lease ends.
        """
        await self._registry.sweep()
        for worker, job_ids in self._registry.left_with():
            logger.warning("worker %s left with jobs that it had just been handed", worker.id)
            await self._take_back(worker, job_ids, counts_as_retry=False)
        # Noted before: what is taken back may be handed to somebody else at once.
        held = self._registry.held()
        stuck: dict[str, str] = {}
        result = self._log(await self._store.sweep(_MAX_RETRIES, spares_leases=spares_leases))
        for worker, job in held:
            is_lost = job.id in result.requeued or job.id in result.failed
            if (is_lost or job.id in result.timed_out) and worker.jobs.get(job.id) is job:
                del worker.jobs[job.id]
                if is_lost and worker.is_ours:
                    stuck[worker.id] = f"it lost the lease of job {job.id}"
        for worker, why in self._registry.stuck(self._stop_grace_ms):
            stuck.setdefault(worker.id, why)
        if self._on_stuck:
            for worker_id, why in stuck.items():
                await self._on_stuck(worker_id, why)
        return result

    async def _take_back(self, worker: KnownWorker, job_ids: Collection[str], *, counts_as_retry: bool) -> None:
        for job_id in job_ids:
            worker.jobs.pop(job_id, None)
        result = await self._store.release_jobs(
            worker.id, job_ids, counts_as_retry=counts_as_retry, max_retries=_MAX_RETRIES, error=_UNREPORTED
        )
        self._log(result)

    def _log(self, result: SweepResult) -> SweepResult:
        self.outcomes.update(requeued=len(result.requeued), failed=len(result.failed))
        for job_id in result.requeued:
            logger.warning("job %s lost its worker and waits again", job_id)
        for job_id in result.failed:
            logger.error("job %s lost its worker once too often and failed", job_id)
        for job_id in result.timed_out:
            logger.warning("job %s timed out", job_id)
        return result
