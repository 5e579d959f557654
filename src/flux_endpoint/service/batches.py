"""What a client can do with batches: collect requests, queue them together, read them, cancel them."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flux_endpoint.core import ids
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.batch import (
    BATCH_RETENTION_MS,
    MAX_NAME_CHARS,
    Batch,
    BatchRequest,
    BatchStatus,
)
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest, UnknownBatch
from flux_endpoint.core.job import Job
from flux_endpoint.service.bodies import at
from flux_endpoint.service.endpoint import EndpointService, Retention, perhaps_made
from flux_endpoint.stores.batches.protocol import BatchStore

# Checking this many takes milliseconds; then whoever else waits has a turn.
_CHECK_AT_ONCE: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BatchService:
    """The operations of a batch, for every endpoint.

    Args:
        endpoints: says what a valid request is.
        store: where batches are kept.
        clock: stamps batches.
        retention: how long results of single jobs can be read; those of batches a day at least.
    """

    def __init__(self, endpoints: EndpointService, store: BatchStore, clock: Clock, retention: Retention) -> None:
        self._endpoints = endpoints
        self._store = store
        self._clock = clock
        self._retention_ms = None if retention.run_ms is None else max(retention.run_ms, BATCH_RETENTION_MS)

    async def create(self, key: ApiKey, endpoint_id: str, data: bytes) -> Batch:
        """Start a batch with some requests, or none.

        Args:
            key: who makes it; here and below, a batch that a key does not see does not exist.
            endpoint_id: where its jobs will go.
            data: a JSON array of bodies as `/run` takes them.

        Raises:
            InvalidRequest: `data` is no array, or one of them is wrong: the text has its index. Nothing is kept.
            Conflict: the key has as many active batches on the endpoint as it may have.
        """
        requests = await self._check(endpoint_id, data)
        batch = Batch(ids.new_batch_id(), endpoint_id, BatchStatus.DRAFT, self._clock.now_ms(), key_id=key.id)
        with perhaps_made(batch.id):
            return await self._store.create_batch(batch, requests)

    async def add(self, key: ApiKey, endpoint_id: str, batch_id: str, data: bytes) -> tuple[Batch, list[str]]:
        """Add the `requests` of a JSON object to a DRAFT: all or none.

        Returns:
            The batch, and the ids of what was added.

        Raises:
            InvalidRequest: the body is wrong, or one of its requests is: the text has its index; or they are too many.
            UnknownBatch: there is none of that id that the key sees.
            Conflict: the batch is no DRAFT.
        """
        # Before the long check: a batch that does not exist is the more helpful error.
        await self.get(key, endpoint_id, batch_id)
        requests = await self._check(endpoint_id, data, "requests")
        with perhaps_made(batch_id):
            batch = await self._store.add_requests(endpoint_id, batch_id, requests)
        return batch, [request.id for request in requests]

    async def change(self, key: ApiKey, endpoint_id: str, batch_id: str, body: object) -> Batch:
        """Set `name` and `webhook` of a DRAFT; null takes one away, what is absent stays.

        Raises:
            InvalidRequest: the body or a value is wrong.
            UnknownBatch: there is none of that id that the key sees.
            Conflict: the batch is no DRAFT.
        """
        await self.get(key, endpoint_id, batch_id)
        if not isinstance(body, Mapping):
            raise InvalidRequest("Invalid request: the body must be a JSON object")
        changes: dict[str, str | None] = {}
        if "name" in body:
            changes["name"] = _name(body["name"])
        if "webhook" in body:
            # Under the rules of `/run`.
            changes["webhook"] = self._endpoints.parse({"input": {}, "webhook": body["webhook"]}).webhook
        return await self._store.change_batch(endpoint_id, batch_id, changes)

    async def get(self, key: ApiKey, endpoint_id: str, batch_id: str) -> Batch:
        """The batch; one that the key does not see does not exist.

        Raises:
            UnknownBatch: there is none of that id.
        """
        batch = await self._store.get_batch(endpoint_id, batch_id)
        if key.sees_only not in (None, batch.key_id):
            raise UnknownBatch.on(endpoint_id, batch_id)
        return batch

    async def list_batches(self, key: ApiKey, endpoint_id: str, offset: int, limit: int) -> tuple[list[Batch], int]:
        """Batches that the key sees, newest first, and how many there are in all."""
        return await self._store.list_batches(endpoint_id, offset, limit, key.sees_only)

    async def list_requests(
        self, key: ApiKey, endpoint_id: str, batch_id: str, offset: int, limit: int
    ) -> tuple[Sequence[tuple[str, Job | None]], int]:
        """Requests of a batch by their ids: first those that FAILED or are TIMED_OUT, else in the order they came.

        Returns:
            Each with its job, or None while it is none; and how many there are in all.

        Raises:
            UnknownBatch: there is none of that id that the key sees.
        """
        await self.get(key, endpoint_id, batch_id)
        return await self._store.list_requests(endpoint_id, batch_id, offset, limit)

    async def remove(self, key: ApiKey, endpoint_id: str, batch_id: str, request_id: str) -> None:
        """Take a request out of a DRAFT.

        Raises:
            UnknownBatch, Conflict, UnknownJob: the batch, a DRAFT or the request is not there.
        """
        await self.get(key, endpoint_id, batch_id)
        await self._store.remove_request(endpoint_id, batch_id, request_id)

    async def finalize(self, key: ApiKey, endpoint_id: str, batch_id: str, origin: str | None = None) -> Batch:
        """Make jobs of the requests of a DRAFT, all at once; they belong to the key that made the batch, and it pays.

        Raises:
            UnknownBatch: there is none of that id that the key sees.
            Conflict: it is in another state, or has no requests.
            OverBudget: the key cannot pay for all of them; nothing changed.
            TooManyRequests: the endpoint would have more waiting jobs than it may have; nothing changed.
        """
        batch = await self.get(key, endpoint_id, batch_id)
        payer = batch.key_id or key.id
        with perhaps_made(batch_id):
            return await self._store.finalize_batch(endpoint_id, batch_id, payer, self._retention_ms, origin)

    async def cancel(self, key: ApiKey, endpoint_id: str, batch_id: str) -> Batch:
        """Make a batch CANCELLED, and each of its jobs that is not terminal.

        Raises:
            UnknownBatch: there is none of that id that the key sees.
        """
        await self.get(key, endpoint_id, batch_id)
        return await self._store.cancel_batch(endpoint_id, batch_id)

    async def _check(self, endpoint_id: str, data: bytes, name: str | None = None) -> list[BatchRequest]:
        requests = await self._endpoints.bodies.requests(self._endpoints.spec(endpoint_id), data, name)
        for index, request in enumerate(requests):
            if index % _CHECK_AT_ONCE == _CHECK_AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                self._endpoints.check_places(request)
            except InvalidRequest as error:
                raise InvalidRequest(f"{at(index)}: {error}") from None
        return requests


def _name(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS or _CONTROL.search(value):
        raise InvalidParameter(
            "name", f"must be a string of at most {MAX_NAME_CHARS} characters, none of them a control character"
        )
    return value
