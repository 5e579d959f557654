"""The batches' part of the store: drafts, and the jobs they become."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flux_endpoint.core.batch import (
    MAX_ACTIVE_BATCHES,
    MAX_BATCH_REQUESTS,
    MAX_QUEUED_JOBS,
    Batch,
    BatchCounts,
    BatchRequest,
    BatchStatus,
)
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict, TooManyRequests, UnknownBatch, UnknownJob
from flux_endpoint.core.job import FIRST_DIALECT, Job, JobStatus
from flux_endpoint.core.pricing import units_to_usd, usd_to_units
from flux_endpoint.stores.accounts.budget import require_budget
from flux_endpoint.stores.batches import statements as sql
from flux_endpoint.stores.jobs import statements as job_sql
from flux_endpoint.stores.jobs.endings import ended
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Connection, Database, Row, Transaction, of_key

# When a queue of 50,000 may have become shorter.
_RETRY_WHEN_FULL_S = 60


class SqlBatches:
    """Implements `BatchStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create_batch(self, batch: Batch, requests: Sequence[BatchRequest]) -> Batch:
        """See `BatchStore.create_batch`."""
        values = {
            "id": batch.id,
            "endpoint_id": batch.endpoint_id,
            "status": BatchStatus.DRAFT.value,
            "created_ms": batch.created_ms,
            "name": batch.name,
            "webhook": batch.webhook,
            "key_id": batch.key_id,
        }

        def create_batch(transaction: Transaction) -> Batch:
            connection = transaction.connection
            active = connection.scalar(
                sql.COUNT_ACTIVE_OF_KEY, {"endpoint": batch.endpoint_id, "key": values["key_id"]}
            )
            active = active or 0
            if active >= MAX_ACTIVE_BATCHES:
                raise Conflict(
                    f"the API key has {active} active batches on the endpoint, and may have {MAX_ACTIVE_BATCHES}; "
                    "wait for one to be done, or cancel one"
                )
            connection.execute(sql.ADD_BATCH, values)
            _add(connection, batch.id, requests)
            return _get(connection, {"batch": batch.id, "endpoint": batch.endpoint_id})

        return await self._database.write(create_batch, is_heavy=True)

    async def get_batch(self, endpoint_id: str, batch_id: str) -> Batch:
        """See `BatchStore.get_batch`."""
        reference = _reference(endpoint_id, batch_id)
        return await self._database.read(lambda connection: _get(connection, reference), is_heavy=True)

    async def list_batches(
        self, endpoint_id: str, offset: int, limit: int, key_id: str | None = None
    ) -> tuple[list[Batch], int]:
        """See `BatchStore.list_batches`."""
        whose = {"endpoint": endpoint_id} | of_key(key_id)
        page = whose | {"skip": offset, "max_rows": limit}

        def list_batches(connection: Connection) -> tuple[list[Batch], int]:
            rows = connection.execute(sql.LIST_BATCHES if key_id is None else sql.LIST_BATCHES_OF_KEY, page)
            total = connection.scalar(sql.COUNT_BATCHES if key_id is None else sql.COUNT_BATCHES_OF_KEY, whose)
            return _to_batches(connection, rows), total or 0

        return await self._database.read(list_batches, is_heavy=True)

    async def change_batch(self, endpoint_id: str, batch_id: str, changes: Mapping[str, str | None]) -> Batch:
        """See `BatchStore.change_batch`."""
        reference = _reference(endpoint_id, batch_id)

        def change_batch(transaction: Transaction) -> Batch:
            row = _lock_draft(transaction.connection, reference, "changed")
            for name, text in changes.items():
                transaction.connection.execute(sql.CHANGE[name], {"row": row.seq, "text": text})
            return _get(transaction.connection, reference)

        return await self._database.write(change_batch)

    async def add_requests(self, endpoint_id: str, batch_id: str, requests: Sequence[BatchRequest]) -> Batch:
        """See `BatchStore.add_requests`."""
        reference = _reference(endpoint_id, batch_id)

        def add_requests(transaction: Transaction) -> Batch:
            connection = transaction.connection
            _lock_draft(connection, reference, "added to")
            present = connection.execute(sql.SUM_REQUESTS, reference).first.requests
            if present + len(requests) > MAX_BATCH_REQUESTS:
                raise Conflict(
                    f"a batch has at most {MAX_BATCH_REQUESTS} requests; "
                    f"this one has {present}, and {len(requests)} more were sent"
                )
            _add(connection, reference["batch"], requests)
            return _get(connection, reference)

        return await self._database.write(add_requests, is_heavy=True)

    async def remove_request(self, endpoint_id: str, batch_id: str, request_id: str) -> None:
        """See `BatchStore.remove_request`."""
        reference = _reference(endpoint_id, batch_id)
        values = reference | {"request": request_id}

        def remove_request(transaction: Transaction) -> None:
            _lock_draft(transaction.connection, reference, "taken out of")
            if transaction.connection.execute(sql.REMOVE_REQUEST, values).rowcount == 0:
                raise UnknownJob(f"There is no request {values['request']} in the batch {reference['batch']}")

        await self._database.write(remove_request)

    async def list_requests(
        self, endpoint_id: str, batch_id: str, offset: int, limit: int
    ) -> tuple[list[tuple[str, Job | None]], int]:
        """See `BatchStore.list_requests`."""
        reference = _reference(endpoint_id, batch_id)
        values = reference | {"skip": offset, "max_rows": limit}
        now_ms = self._clock.now_ms()

        def list_requests(connection: Connection) -> tuple[list[tuple[str, Job | None]], int]:
            batch = _get(connection, reference)
            if batch.status is BatchStatus.DRAFT:
                return [(request_id, None) for request_id in connection.scalars(sql.LIST_REQUESTS, values)], (
                    batch.counts.total
                )
            jobs = [to_job(row) for row in connection.execute(sql.LIST_JOBS, values)]
            return [(job.id, _as_readable(job, now_ms)) for job in jobs], batch.counts.total

        return await self._database.read(list_requests, is_heavy=True)

    async def finalize_batch(
        self,
        endpoint_id: str,
        batch_id: str,
        key_id: str,
        retention_ms: int | None,
        origin: str | None = None,
        dialect: str = FIRST_DIALECT,
    ) -> Batch:
        """See `BatchStore.finalize_batch`."""
        reference = _reference(endpoint_id, batch_id)
        now_ms = self._clock.now_ms()

        def finalize_batch(transaction: Transaction) -> Batch:
            connection = transaction.connection
            row = _lock(connection, reference)
            if row.status == BatchStatus.FINALIZED:
                return _get(connection, reference)
            _require_draft(row, "finalized")
            sums = connection.execute(sql.SUM_REQUESTS, reference).first
            if sums.requests == 0:
                raise Conflict(f"batch {row.id} has no requests; add some before it is finalized")
            _require_room(connection, row.endpoint_id, sums.requests)
            connection.execute(
                sql.QUEUE_REQUESTS,
                reference
                | {"now_ms": now_ms, "key": key_id, "hook": row.webhook, "kept_ms": retention_ms}
                | {"asked_at": origin, "spoken": dialect},
            )
            connection.execute(sql.DROP_REQUESTS, reference)
            connection.execute(sql.SET_STATUS, {"row": row.seq, "new_status": BatchStatus.FINALIZED.value})
            require_budget(connection, key_id, units_to_usd(int(sums.cost_units)), now_ms, "batch")
            transaction.news[channels.jobs_on(row.endpoint_id)] = None
            return _get(connection, reference)

        return await self._database.write(finalize_batch, is_long=True)

    async def cancel_batch(self, endpoint_id: str, batch_id: str) -> Batch:
        """See `BatchStore.cancel_batch`."""
        reference = _reference(endpoint_id, batch_id)
        values = reference | {"now_ms": self._clock.now_ms()}

        def cancel_batch(transaction: Transaction) -> Batch:
            connection = transaction.connection
            row = _lock(connection, reference)
            cancelled = connection.execute(job_sql.CANCEL_OF_BATCH, values)
            for job_row in cancelled:
                ended(transaction, job_row)
            if cancelled or row.status == BatchStatus.DRAFT:
                connection.execute(sql.DROP_REQUESTS, reference)
                connection.execute(sql.SET_STATUS, {"row": row.seq, "new_status": BatchStatus.CANCELLED.value})
            return _get(connection, reference)

        return await self._database.write(cancel_batch, is_long=True)


def _reference(endpoint_id: str, batch_id: str) -> dict[str, Any]:
    return {"batch": batch_id, "endpoint": endpoint_id}


def _found(row: Row, reference: dict[str, Any]) -> Row:
    if row is None:
        raise UnknownBatch.on(reference["endpoint"], reference["batch"])
    return row


def _lock(connection: Connection, reference: dict[str, Any]) -> Row:
    return _found(connection.execute(sql.LOCK_BATCH, reference).first, reference)


def _lock_draft(connection: Connection, reference: dict[str, Any], what: str) -> Row:
    row = _lock(connection, reference)
    _require_draft(row, what)
    return row


def _require_draft(row: Row, what: str) -> None:
    if row.status != BatchStatus.DRAFT:
        raise Conflict(f"batch {row.id} is {row.status}; only a DRAFT can be {what}")


def _require_room(connection: Connection, endpoint_id: str, requests: int) -> None:
    values = {"endpoint": endpoint_id, "max_jobs": MAX_QUEUED_JOBS}
    waiting = connection.scalar(sql.COUNT_WAITING, values) or 0
    if waiting + requests > MAX_QUEUED_JOBS:
        raise TooManyRequests(
            f"{waiting} jobs wait on the endpoint; with the {requests} of this batch there would be more than "
            f"{MAX_QUEUED_JOBS}; try again later",
            _RETRY_WHEN_FULL_S,
        )


def _get(connection: Connection, reference: dict[str, Any]) -> Batch:
    row = _found(connection.execute(sql.GET_BATCH, reference).first, reference)
    return _to_batches(connection, [row])[0]


def _to_batches(connection: Connection, rows: Sequence[Row]) -> list[Batch]:
    values = {"batches": [row.id for row in rows]}
    counted: dict[str, dict[str | None, int]] = {row.id: {} for row in rows}
    for row in connection.execute(sql.COUNT_REQUESTS, values):
        counted[row.batch_id][None] = row.requests
    for row in connection.execute(sql.COUNT_JOBS, values):
        counted[row.batch_id][row.status] = row.requests
    return [
        Batch(
            row.id,
            row.endpoint_id,
            BatchStatus(row.status),
            row.created_ms,
            row.name,
            row.webhook,
            _counts(counted[row.id]),
            row.key_id,
        )
        for row in rows
    ]


def _counts(by_status: dict[str | None, int]) -> BatchCounts:
    failures = (JobStatus.FAILED, JobStatus.TIMED_OUT, JobStatus.CANCELLED)
    return BatchCounts(
        total=sum(by_status.values()),
        in_progress=by_status.get(JobStatus.IN_PROGRESS, 0),
        completed=by_status.get(JobStatus.COMPLETED, 0),
        failed=sum(by_status.get(status, 0) for status in failures),
    )


def _add(connection: Connection, batch_id: str, requests: Sequence[BatchRequest]) -> None:
    rows = [
        {
            "id": request.id,
            "batch_id": batch_id,
            "input": request.input,
            "cost_units": usd_to_units(request.cost_usd),
            "execution_timeout_ms": request.policy.execution_timeout_ms,
            "ttl_ms": request.policy.ttl_ms,
            "low_priority": int(request.policy.low_priority),
            "webhook": request.webhook,
            "bucket": None if request.bucket is None else dataclasses.asdict(request.bucket),
            "warnings": list(request.warnings) or None,
        }
        for request in requests
    ]
    if rows:
        connection.execute(sql.ADD_REQUESTS, rows)


def _as_readable(job: Job, now_ms: int) -> Job:
    is_over = job.expires_ms is not None and job.expires_ms <= now_ms
    return dataclasses.replace(job, output=None) if is_over else job
