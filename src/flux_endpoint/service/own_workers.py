"""What a gateway's own fleet tells of its workers."""

from collections.abc import Collection
from typing import Final

from flux_endpoint.core.job import SweepResult
from flux_endpoint.core.worker import WorkerState
from flux_endpoint.service.losses import Losses
from flux_endpoint.service.worker_registry import WorkerRegistry

_NOT_NEEDED: Final = "it is no longer needed"


class OwnWorkers:
    """The workers that this gateway has started.

    Attributes:
        gone: ids of those that have ended: none of them is handed anything any more.
    """

    def __init__(self, registry: WorkerRegistry, losses: Losses) -> None:
        self._registry = registry
        self._losses = losses
        self.gone: set[str] = set()

    async def expect(self, worker_id: str, endpoint_ids: Collection[str], reason: str = "") -> None:
        """Note that a worker is being started here; it counts as initializing until it first asks for a job.

        Args:
            worker_id: its id.
            endpoint_ids: what it will serve.
            reason: what became of the one before it, when that ended badly.
        """
        await self._registry.expect(worker_id, endpoint_ids, reason)

    async def refused(self, worker_id: str, reason: str) -> None:
        """A worker has ended and is not started again; it has said why, or `reason` does."""
        worker = self._registry.get(worker_id)
        if worker is not None and worker.state is not WorkerState.UNHEALTHY:
            await self._registry.move(worker, WorkerState.UNHEALTHY, reason)

    async def dismiss(self, worker_id: str) -> None:
        """A worker will be asked to leave for good: it gets no more jobs, and counts no longer."""
        worker = self._registry.get(worker_id)
        if worker is not None:
            await self._registry.move(worker, WorkerState.DISMISSED, _NOT_NEEDED)

    async def dismissed(self, worker_id: str) -> None:
        """A worker that was asked to leave has ended; what it had not given back waits again, unblamed."""
        self.gone.add(worker_id)
        await self._losses.recover(worker_id)

    async def lost(self, worker_id: str) -> SweepResult:
        """Take back the jobs of a dead worker; one that lost a worker before fails. Returns what became of them."""
        self.gone.add(worker_id)
        return await self._losses.lost(worker_id)

    async def recover(self, worker_id_prefix: str) -> SweepResult:
        """After a restart: jobs that the workers of the process before held go back to the queue, unblamed."""
        return await self._losses.recover(worker_id_prefix)
