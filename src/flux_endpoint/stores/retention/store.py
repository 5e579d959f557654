"""Erases and deletes in the SQL database what has had its time."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, delete
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from flux_endpoint.core.batch import DRAFT_LIFE_MS
from flux_endpoint.core.clock import Clock
from flux_endpoint.stores.activity.statements import FORGET_COLD_STARTS
from flux_endpoint.stores.batches import statements as batch_sql
from flux_endpoint.stores.jobs import chunk_statements as chunk_sql
from flux_endpoint.stores.jobs import statements as job_sql
from flux_endpoint.stores.jobs.idempotency import forget_free_keys
from flux_endpoint.stores.retention.protocol import Forgotten
from flux_endpoint.stores.sql.database import Database, Transaction
from flux_endpoint.stores.sql.schema import admissions
from flux_endpoint.stores.webhooks import statements as webhook_sql
from flux_endpoint.stores.webhooks.store import erase_delivered

# Deleting this many takes milliseconds; nobody else can write to SQLite meanwhile.
_AT_ONCE: Final = 500
# No window is as long. While a key asks, its next requests throw away what is old.
_ADMISSIONS_MS: Final = 600_000
_FORGET_ADMISSIONS: Final = delete(admissions).where(admissions.c.at_ms < bindparam("old_ms", type_=BigInteger))


class SqlRetention:
    """Implements `RetentionStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def erase_expired(self) -> int:
        """See `RetentionStore.erase_expired`."""
        erased = await self._clear_jobs(job_sql.ERASE, {"now_ms": self._clock.now_ms()})
        await self._database.scrub(has_deleted=erased > 0)
        return erased

    async def forget(self, before_ms: int) -> Forgotten:
        """See `RetentionStore.forget`."""
        now_ms = self._clock.now_ms()
        before = {"before_ms": before_ms}
        stale = before | {"stale_ms": now_ms - DRAFT_LIFE_MS}

        def forget_rest(transaction: Transaction) -> None:
            connection = transaction.connection
            for statement in (batch_sql.DROP_STALE_REQUESTS, batch_sql.FAIL_STALE, batch_sql.FORGET_BATCHES):
                connection.execute(statement, stale)
            forget_free_keys(connection, now_ms)
            connection.execute(webhook_sql.FORGET_RECEIVERS, before)
            connection.execute(FORGET_COLD_STARTS, before)
            connection.execute(_FORGET_ADMISSIONS, {"old_ms": now_ms - _ADMISSIONS_MS})

        jobs = await self._clear_jobs(job_sql.FORGET, before)
        webhooks = await self._in_portions(
            lambda transaction: (
                transaction.connection.execute(webhook_sql.FORGET, before | {"max_deliveries": _AT_ONCE}).rowcount
            )
        )
        await self._database.write(forget_rest, is_long=True)
        await self._database.scrub(has_deleted=True)
        return Forgotten(jobs, webhooks)

    async def _clear_jobs(self, statement: ReturningUpdate[Any] | ReturningDelete[Any], values: dict[str, Any]) -> int:
        """Run a statement that returns job ids until it finds no more; what those jobs had sent is deleted."""

        def clear_jobs(transaction: Transaction) -> int:
            job_ids = transaction.connection.scalars(statement, values | {"max_jobs": _AT_ONCE})
            if job_ids:
                for forget in (chunk_sql.FORGET, chunk_sql.FORGET_READERS):
                    transaction.connection.execute(forget, {"job_ids": job_ids})
                erase_delivered(transaction.connection, job_ids)
            return len(job_ids)

        return await self._in_portions(clear_jobs)

    async def _in_portions(self, erase: Callable[[Transaction], int]) -> int:
        """Erase again and again, each time in a transaction, until there is less than `_AT_ONCE`. Returns the sum."""
        total = 0
        while True:
            done = await self._database.write(erase, is_long=True)
            total += done
            if done < _AT_ONCE:
                return total
