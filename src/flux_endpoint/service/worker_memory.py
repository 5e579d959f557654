"""What workers say of their memory, and asking them to give it back."""

import logging
from collections.abc import Collection

from flux_endpoint.service.worker_registry import WorkerRegistry

logger = logging.getLogger(__name__)


class WorkerMemory:
    """The memory of the workers that ask this gateway for jobs.

    Args:
        registry: of the workers.
    """

    def __init__(self, registry: WorkerRegistry) -> None:
        self._registry = registry

    def note(self, worker_id: str, memory: str) -> None:
        """A worker tells how it keeps its models."""
        worker = self._registry.get(worker_id)
        if worker is not None and worker.memory != memory:
            logger.info("worker %s: memory mode %s", worker_id, memory)
            worker.memory = memory

    def unload(self, endpoint_ids: Collection[str] | None) -> list[str]:
        """Ask workers to take their models out of memory until their next job.

        Args:
            endpoint_ids: only workers that serve none but these; None for all.

        Returns:
            The ids of those that are asked; workers of other makes cannot be.
        """
        asked = [
            worker
            for worker in self._registry.known()
            if worker.can_unload and (endpoint_ids is None or worker.endpoint_ids <= frozenset(endpoint_ids))
        ]
        for worker in asked:
            worker.unloads.set()
            worker.lora_sets = ()
        return sorted(worker.id for worker in asked)

    def is_to_unload(self, worker_id: str) -> bool:
        """Whether a worker is to be asked; told once."""
        worker = self._registry.get(worker_id)
        if worker is None or not worker.unloads.is_set():
            return False
        worker.unloads.clear()
        return True
