"""What a client can do with batches: collect requests, queue them together, read them, cancel them."""

from collections.abc import Mapping, Sequence

from flux_endpoint.core.batch import BATCH_RETENTION_MS, Batch, BatchRequest, BatchStatus
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import UnknownBatch
from flux_endpoint.core.job import Job
from flux_endpoint.service.endpoint import Endpoint, Retention, perhaps_made
from flux_endpoint.stores.batches.protocol import BatchStore


class BatchService:
    """The operations of a batch. A batch that the key of an endpoint does not see does not exist.

    Args:
        store: where batches are kept.
        clock: stamps batches.
        retention: how long results of single jobs can be read; those of batches a day at least.
    """

    def __init__(self, store: BatchStore, clock: Clock, retention: Retention) -> None:
        self._store = store
        self._clock = clock
        self._retention_ms = None if retention.run_ms is None else max(retention.run_ms, BATCH_RETENTION_MS)

    async def create(self, endpoint: Endpoint, batch_id: str, requests: Sequence[BatchRequest]) -> Batch:
        """Start a batch with some requests, or none.

        Raises:
            Conflict: the key has as many active batches on the endpoint as it may have.
        """
        batch = Batch(batch_id, endpoint.id, BatchStatus.DRAFT, self._clock.now_ms(), key_id=endpoint.key.id)
        with perhaps_made(batch_id):
            return await self._store.create_batch(batch, requests)

    async def add(self, endpoint: Endpoint, batch_id: str, requests: Sequence[BatchRequest]) -> Batch:
        """Add requests to a DRAFT: all or none.

        Raises:
            InvalidRequest: they are too many.
            UnknownBatch, Conflict: there is no such DRAFT.
        """
        await self.get(endpoint, batch_id)
        with perhaps_made(batch_id):
            return await self._store.add_requests(endpoint.id, batch_id, requests)

    async def change(self, endpoint: Endpoint, batch_id: str, changes: Mapping[str, str | None]) -> Batch:
        """Set `name` and `webhook` of a DRAFT; None takes one away, what is absent stays.

        Raises:
            UnknownBatch, Conflict: there is no such DRAFT.
        """
        await self.get(endpoint, batch_id)
        return await self._store.change_batch(endpoint.id, batch_id, changes)

    async def get(self, endpoint: Endpoint, batch_id: str) -> Batch:
        """A batch with its counts.

        Raises:
            UnknownBatch: there is none of that id; so for all that follows.
        """
        batch = await self._store.get_batch(endpoint.id, batch_id)
        if endpoint.key.sees_only not in (None, batch.key_id):
            raise UnknownBatch.on(endpoint.id, batch_id)
        return batch

    async def list_batches(self, endpoint: Endpoint, offset: int, limit: int) -> tuple[list[Batch], int]:
        """Some batches, newest first, and how many there are."""
        return await self._store.list_batches(endpoint.id, offset, limit, endpoint.key.sees_only)

    async def list_requests(
        self, endpoint: Endpoint, batch_id: str, offset: int, limit: int
    ) -> tuple[Sequence[tuple[str, Job | None]], int]:
        """Some requests of a batch by id with their jobs, None while it is a DRAFT, and how many there are."""
        await self.get(endpoint, batch_id)
        return await self._store.list_requests(endpoint.id, batch_id, offset, limit)

    async def remove(self, endpoint: Endpoint, batch_id: str, request_id: str) -> None:
        """Take a request out of a DRAFT.

        Raises:
            UnknownJob, Conflict: there is no such request, or the batch is no DRAFT.
        """
        await self.get(endpoint, batch_id)
        await self._store.remove_request(endpoint.id, batch_id, request_id)

    async def finalize(self, endpoint: Endpoint, batch_id: str, dialect: str, origin: str | None = None) -> Batch:
        """Make a job of each request; they belong to the key that made the batch, and it pays.

        Raises:
            Conflict: it was cancelled, or has no requests.
            OverBudget: the key cannot pay for all of it.
        """
        batch = await self.get(endpoint, batch_id)
        payer = batch.key_id or endpoint.key.id
        with perhaps_made(batch_id):
            return await self._store.finalize_batch(endpoint.id, batch_id, payer, self._retention_ms, origin, dialect)

    async def cancel(self, endpoint: Endpoint, batch_id: str) -> Batch:
        """Cancel what waits or runs of a batch, or drop a DRAFT."""
        await self.get(endpoint, batch_id)
        return await self._store.cancel_batch(endpoint.id, batch_id)
