"""What the rest of the project asks of the place where batches are kept."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from flux_endpoint.core.batch import Batch, BatchRequest
from flux_endpoint.core.job import FIRST_DIALECT, Job


class BatchStore(Protocol):
    """Batches and their requests. Every verb is one transaction; all are safe to call concurrently.

    Every method may raise `StoreUnavailable`, and those that name a batch `UnknownBatch`.
    """

    async def create_batch(self, batch: Batch, requests: Sequence[BatchRequest]) -> Batch:
        """Write a new batch, a DRAFT.

        Raises:
            Conflict: its key has as many active batches on the endpoint as it may have: drafts, and those with
                unfinished jobs.
        """
        ...

    async def get_batch(self, endpoint_id: str, batch_id: str) -> Batch:
        """Read one batch."""
        ...

    async def list_batches(
        self, endpoint_id: str, offset: int, limit: int, key_id: str | None = None
    ) -> tuple[list[Batch], int]:
        """Batches of an endpoint (and key, unless None), newest first, and how many there are in all."""
        ...

    async def change_batch(self, endpoint_id: str, batch_id: str, changes: Mapping[str, str | None]) -> Batch:
        """Set `name` or `webhook` of a DRAFT; what `changes` does not name stays.

        Raises:
            Conflict: the batch is no DRAFT.
        """
        ...

    async def add_requests(self, endpoint_id: str, batch_id: str, requests: Sequence[BatchRequest]) -> Batch:
        """Add requests to a DRAFT: all or none.

        Raises:
            Conflict: the batch is no DRAFT.
            InvalidRequest: there would be more of them than a batch may have.
        """
        ...

    async def remove_request(self, endpoint_id: str, batch_id: str, request_id: str) -> None:
        """Take a request out of a DRAFT.

        Raises:
            Conflict: the batch is no DRAFT.
            UnknownJob: it has no such request.
        """
        ...

    async def list_requests(
        self, endpoint_id: str, batch_id: str, offset: int, limit: int
    ) -> tuple[list[tuple[str, Job | None]], int]:
        """Requests of a batch by their ids: first those that FAILED or are TIMED_OUT, else in the order they came.

        Returns:
            Each with its job, or None while it is none; the `output` of a job that can no longer be read is None. And
            how many there are in all.
        """
        ...

    async def finalize_batch(
        self,
        endpoint_id: str,
        batch_id: str,
        key_id: str,
        retention_ms: int | None,
        origin: str | None = None,
        dialect: str = FIRST_DIALECT,
    ) -> Batch:
        """Make jobs of the requests of a DRAFT, all at once; a batch that is FINALIZED already is returned as it is.

        Args:
            endpoint_id: of the batch.
            batch_id: of the batch.
            key_id: the API key that pays.
            retention_ms: see `Job`.
            origin: see `Job`.
            dialect: see `Job`.

        Raises:
            Conflict: the batch is in another state, or has no requests.
            OverBudget: the key cannot pay for all of them; nothing changed.
            TooManyRequests: the endpoint would have more waiting jobs than it may have; nothing changed.
        """
        ...

    async def cancel_batch(self, endpoint_id: str, batch_id: str) -> Batch:
        """Make a batch CANCELLED, and each of its jobs that is not terminal; drop the requests of a DRAFT.

        A batch whose jobs are all terminal stays as it is.
        """
        ...
