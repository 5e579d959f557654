"""Workers and their tokens in the SQL database."""

from collections.abc import Mapping, Sequence
from typing import Any

from flux_endpoint.core.worker import WorkerRecord, WorkerState, WorkerToken
from flux_endpoint.stores.sql.database import Database, Row, Transaction
from flux_endpoint.stores.workers import statements as sql


class SqlWorkers:
    """Implements `WorkerStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_worker_token(self, token: WorkerToken, secret_hash: str) -> None:
        """See `WorkerStore.add_worker_token`."""
        values = {
            "id": token.id,
            "name": token.name,
            "secret_hash": secret_hash,
            "endpoint_ids": None if token.endpoint_ids is None else sorted(token.endpoint_ids),
            "created_ms": token.created_ms,
            "revoked_ms": token.revoked_ms,
        }

        def add_worker_token(transaction: Transaction) -> None:
            transaction.connection.execute(sql.ADD_TOKEN, values)

        await self._database.write(add_worker_token)

    async def find_worker_token(self, secret_hash: str) -> WorkerToken | None:
        """See `WorkerStore.find_worker_token`."""
        values = {"hash": secret_hash}
        row = await self._database.read(lambda connection: connection.execute(sql.FIND_TOKEN, values).first)
        return None if row is None else _to_token(row)

    async def list_worker_tokens(self) -> Sequence[WorkerToken]:
        """See `WorkerStore.list_worker_tokens`."""
        rows = await self._database.read(lambda connection: connection.execute(sql.LIST_TOKENS))
        return [_to_token(row) for row in rows]

    async def revoke_worker_token(self, token_id: str, now_ms: int) -> bool:
        """See `WorkerStore.revoke_worker_token`."""
        values = {"token": token_id, "now_ms": now_ms}
        return await self._database.write(
            lambda transaction: transaction.connection.execute(sql.REVOKE_TOKEN, values).rowcount > 0
        )

    async def get_worker(self, worker_id: str) -> WorkerRecord | None:
        """See `WorkerStore.get_worker`."""
        values = {"worker": worker_id}
        row = await self._database.read(lambda connection: connection.execute(sql.GET_WORKER, values).first)
        return None if row is None else _to_record(row)

    async def note_worker(self, record: WorkerRecord, *, with_state: bool) -> WorkerRecord:
        """See `WorkerStore.note_worker`."""
        statement = sql.SET_WORKER if with_state else sql.SEE_WORKER

        def note_worker(transaction: Transaction) -> WorkerRecord:
            return _to_record(transaction.connection.execute(statement, _values(record)).first)

        return await self._database.write(note_worker)

    async def list_workers(self, seen_since_ms: int) -> Sequence[WorkerRecord]:
        """See `WorkerStore.list_workers`."""
        values = {"seen_at": seen_since_ms}
        rows = await self._database.read(lambda connection: connection.execute(sql.LIST_WORKERS, values))
        return [_to_record(row) for row in rows]

    async def count_running_jobs(self) -> Mapping[str, int]:
        """See `WorkerStore.count_running_jobs`."""
        rows = await self._database.read(lambda connection: connection.execute(sql.COUNT_RUNNING))
        return {row.worker_id: row.jobs for row in rows}

    async def forget_worker(self, worker_id: str) -> None:
        """See `WorkerStore.forget_worker`."""

        def forget_worker(transaction: Transaction) -> None:
            transaction.connection.execute(sql.FORGET_WORKER, {"worker": worker_id})

        await self._database.write(forget_worker)

    async def forget_workers(self, id_prefix: str, seen_before_ms: int) -> None:
        """See `WorkerStore.forget_workers`."""
        prefix = id_prefix
        values = {"prefix": prefix, "prefix_chars": len(prefix), "seen_at": seen_before_ms}

        def forget_workers(transaction: Transaction) -> None:
            transaction.connection.execute(sql.FORGET_WORKERS, values)

        await self._database.write(forget_workers)


def _values(record: WorkerRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "endpoint_ids": sorted(record.endpoint_ids),
        "state": record.state.value,
        "reason": record.reason,
        "since_ms": record.since_ms,
        "seen_ms": record.seen_ms,
        "asked_ms": record.asked_ms,
        "fingerprint": record.fingerprint or None,
        "step_us": record.step_us,
    }


def _to_record(row: Row) -> WorkerRecord:
    return WorkerRecord(
        id=row.id,
        endpoint_ids=frozenset(row.endpoint_ids),
        state=WorkerState(row.state),
        reason=row.reason,
        since_ms=row.since_ms,
        seen_ms=row.seen_ms,
        asked_ms=row.asked_ms,
        fingerprint=row.fingerprint or "",
        step_us=row.step_us,
    )


def _to_token(row: Row) -> WorkerToken:
    return WorkerToken(
        id=row.id,
        name=row.name,
        endpoint_ids=None if row.endpoint_ids is None else frozenset(row.endpoint_ids),
        created_ms=row.created_ms,
        revoked_ms=row.revoked_ms,
    )
