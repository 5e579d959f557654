"""What a job sends its client before the end, for as many readers as there are."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job
from flux_endpoint.stores.jobs import chunk_statements as sql
from flux_endpoint.stores.jobs.views import get_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Database, Transaction, storable
from flux_endpoint.stores.sql.signals import Deadline, Signals


class SqlChunks:
    """Implements the verbs of `JobStore` that read chunks."""

    def __init__(self, database: Database, signals: Signals, clock: Clock) -> None:
        self._database = database
        self._signals = signals
        self._clock = clock

    async def take_chunks(self, endpoint_id: str, job_id: str, key_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """See `JobStore.take_chunks`."""
        reader = {"job": storable(job_id), "key": storable(key_id)}

        def position(connection: Connection) -> int:
            return connection.scalar(sql.POSITION, reader) or 0

        def take(transaction: Transaction) -> list[Any]:
            connection = transaction.connection
            connection.execute(sql.ADD_READER, reader)
            last = connection.scalar(sql.LOCK_POSITION, reader)
            rows = connection.execute(sql.READ, {"job": reader["job"], "after": last}).all()
            if rows:
                connection.execute(sql.MOVE, reader | {"last": rows[-1].seq})
            return [row.output for row in rows]

        job, has_news = await self._wait_for_chunk(endpoint_id, job_id, position, timeout_s)
        # After the job: whoever sees the end has been handed what came before it.
        return job, await self._database.write(take, is_quick=True) if has_news else []

    async def chunks_after(
        self, endpoint_id: str, job_id: str, position: int, timeout_s: float
    ) -> tuple[Job, list[Any], int]:
        """See `JobStore.chunks_after`."""
        job, _ = await self._wait_for_chunk(endpoint_id, job_id, lambda _: position, timeout_s)
        unread = {"job": storable(job_id), "after": position}
        rows = await self._database.read(lambda connection: connection.execute(sql.READ, unread).all(), is_quick=True)
        return job, [row.output for row in rows], rows[-1].seq if rows else position

    async def _wait_for_chunk(
        self, endpoint_id: str, job_id: str, position: Callable[[Connection], int], timeout_s: float
    ) -> tuple[Job, bool]:
        """The job, when it is over or has sent something after a position or the time is up; and whether it has."""
        reference = {"job": storable(job_id), "endpoint": storable(endpoint_id)}

        def look(connection: Connection) -> tuple[Job, bool]:
            job = get_job(connection, reference | {"now_ms": self._clock.now_ms()})
            unread = {"job": reference["job"], "after": position(connection)}
            return job, bool(connection.scalar(sql.IS_UNREAD, unread))

        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen([channels.end_of(reference["job"]), channels.chunk_of(reference["job"])]) as listener:
            while True:
                job, has_news = await self._database.read(look, is_quick=True)
                if has_news or job.status.is_terminal or not await deadline.sleep(listener):
                    return job, has_news
