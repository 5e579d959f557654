"""The store: jobs, keys and charges in one SQL database. The statements are in `statements.py`."""

from typing import Any

from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict
from flux_endpoint.core.job import IdempotencyKey, Job, JobStatus
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.stores.accounts.budget import require_budget
from flux_endpoint.stores.accounts.store import SqlLedger
from flux_endpoint.stores.activity.load import SqlLoad
from flux_endpoint.stores.activity.store import SqlUsage
from flux_endpoint.stores.batches.store import SqlBatches
from flux_endpoint.stores.jobs import chunk_statements as chunk_sql
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs.chunks import SqlChunks
from flux_endpoint.stores.jobs.claims import SqlClaims
from flux_endpoint.stores.jobs.endings import ended, waits_again
from flux_endpoint.stores.jobs.idempotency import forget_names, remember, sent_before
from flux_endpoint.stores.jobs.records import job_values, of_key, to_job
from flux_endpoint.stores.jobs.views import SqlViews, get_job
from flux_endpoint.stores.pictures.store import SqlPictures
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Database, Transaction, storable
from flux_endpoint.stores.sql.signals import Deadline, Signals
from flux_endpoint.stores.sql.time_protocol import Timekeeper
from flux_endpoint.stores.webhooks.store import SqlOutbox, erase_delivered
from flux_endpoint.stores.workers.store import SqlWorkers

# Deleting this many takes milliseconds; nobody else can write to SQLite meanwhile.
_DELETE_AT_ONCE = 500


class SqlStore(
    SqlClaims, SqlViews, SqlChunks, SqlBatches, SqlLoad, SqlLedger, SqlWorkers, SqlOutbox, SqlUsage, SqlPictures
):
    """Implements `JobStore` and, inherited, the other protocols of this folder. Open it with `connect.open_store`.

    Attributes:
        clock: stamps what is written.
        timekeeper: sets the clock; None for one that only its owner sets.
    """

    def __init__(
        self, database: Database, signals: Signals, clock: Clock, timekeeper: Timekeeper | None = None
    ) -> None:
        self.clock = clock
        self.timekeeper = timekeeper
        SqlClaims.__init__(self, database, signals, clock)
        SqlViews.__init__(self, database, signals, clock)
        SqlChunks.__init__(self, database, signals, clock)
        SqlBatches.__init__(self, database, clock)
        SqlLedger.__init__(self, database)
        SqlWorkers.__init__(self, database)
        SqlUsage.__init__(self, database)
        SqlOutbox.__init__(self, database, signals, clock)
        SqlPictures.__init__(self, database, clock)

    def drain(self) -> None:
        """Answer everybody who waits, now and from now on, with what there is: the process is about to end."""
        self._signals.drain()

    def hurry(self, seconds: float) -> None:
        """The process is about to end: whatever the database has not answered in so many seconds is refused."""
        self._database.hurry(seconds)

    async def close(self) -> None:
        """Let running work end and let go of the database. Whoever still waits gets `StoreUnavailable`."""
        await self._database.close()
        self._signals.fire_all()

    async def enqueue(self, job: Job, idempotency_key: IdempotencyKey | None = None) -> Job:
        """See `JobStore.enqueue`."""
        if job.status not in (JobStatus.IN_QUEUE, JobStatus.FAILED):
            raise ValueError(f"A new job is IN_QUEUE or FAILED, not {job.status}")
        if job.status.is_terminal != (job.finished_ms is not None):
            raise ValueError("finished_ms belongs to a job that is FAILED, and only to that")
        values = job_values(job)
        if isinstance(job.input, RawJson):
            self._has_big_rows = True

        def work(transaction: Transaction) -> Job:
            connection = transaction.connection
            if idempotency_key is not None:
                before = sent_before(connection, job.key_id, job.endpoint_id, idempotency_key, job.created_ms)
                if before is not None:
                    return before
                remember(connection, job, idempotency_key)
            connection.execute(sql.ENQUEUE, values)
            if job.status is JobStatus.IN_QUEUE:
                require_budget(connection, job, self._clock.now_ms())
                transaction.wake(channels.work_on(job.endpoint_id))
            return job

        try:
            return await self._database.write(work, is_quick=not isinstance(job.input, RawJson))
        except ValueError:
            if idempotency_key is None:
                raise
            # Another gateway was faster with the same name, by less than a transaction: now it can be seen.
            return await self._database.write(work, is_quick=True)

    async def find_submitted(self, endpoint_id: str, key_id: str, idempotency_key: IdempotencyKey) -> Job | None:
        """See `JobStore.find_submitted`."""
        now_ms = self._clock.now_ms()
        return await self._database.read(
            lambda connection: sent_before(connection, key_id, endpoint_id, idempotency_key, now_ms), is_quick=True
        )

    async def set_ttl(self, endpoint_id: str, job_id: str, ttl_ms: int) -> Job:
        """See `JobStore.set_ttl`."""
        reference = self._reference(endpoint_id, job_id)
        values = reference | {"until_ms": reference["now_ms"] + ttl_ms}

        def work(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.SET_TTL, values).one_or_none()
            return get_job(transaction.connection, reference) if row is None else to_job(row)

        return await self._database.write(work)

    async def wait(self, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """See `JobStore.wait`."""
        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen([channels.end_of(job_id)]) as listener:
            while True:
                job = await self.get(endpoint_id, job_id)
                if job.status.is_terminal or not await deadline.sleep(listener):
                    return job
                # It ended in this process, which has just written what a look would find.
                if listener.job is not None and listener.job.is_readable(self._clock.now_ms()):
                    return listener.job

    async def cancel(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.cancel`."""
        reference = self._reference(endpoint_id, job_id)

        def work(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.CANCEL, reference).one_or_none()
            return get_job(transaction.connection, reference) if row is None else ended(transaction, row)

        return await self._database.write(work)

    async def retry(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.retry`."""
        reference = self._reference(endpoint_id, job_id)

        def work(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.RETRY, reference).one_or_none()
            if row is None:
                raise Conflict(_why_no_retry(get_job(transaction.connection, reference)))
            job = to_job(row)
            require_budget(transaction.connection, job, self._clock.now_ms())
            waits_again(transaction, row)
            return job

        return await self._database.write(work)

    async def purge(self, endpoint_id: str, key_id: str | None = None) -> int:
        """See `JobStore.purge`."""
        values = {"endpoint": storable(endpoint_id), "now_ms": self._clock.now_ms()} | of_key(key_id)

        def work(transaction: Transaction) -> int:
            statement = sql.PURGE if key_id is None else sql.PURGE_OF_KEY
            purged = transaction.connection.execute(statement, values).all()
            for row in purged:
                ended(transaction, row)
            return len(purged)

        return await self._database.write(work, is_long=True)

    async def erase_expired(self) -> int:
        """See `JobStore.erase_expired`."""
        erased = await self._in_batches(sql.ERASE, {"now_ms": self._clock.now_ms()})
        await self._database.scrub(has_deleted=erased > 0)
        return erased

    async def forget(self, finished_before_ms: int) -> int:
        """See `JobStore.forget`."""
        forgotten = await self._in_batches(sql.FORGET, {"before_ms": finished_before_ms})
        await self._forget_batches(finished_before_ms)
        now_ms = self._clock.now_ms()
        await self._database.write(lambda transaction: forget_names(transaction.connection, now_ms))
        await self._database.scrub(has_deleted=True)
        return forgotten

    async def _in_batches(self, statement: ReturningUpdate[Any] | ReturningDelete[Any], values: dict[str, Any]) -> int:
        """Run a statement that returns job ids until it finds no more; what those jobs had sent is deleted."""

        def work(transaction: Transaction) -> int:
            limits = values | {"max_jobs": _DELETE_AT_ONCE}
            job_ids = transaction.connection.scalars(statement, limits).all()
            if job_ids:
                for forget in (chunk_sql.FORGET, chunk_sql.FORGET_READERS):
                    transaction.connection.execute(forget, {"job_ids": job_ids})
                erase_delivered(transaction.connection, job_ids)
            return len(job_ids)

        total = 0
        while True:
            batch = await self._database.write(work, is_long=True)
            total += batch
            if batch < _DELETE_AT_ONCE:
                return total


def _why_no_retry(job: Job) -> str:
    if job.status is JobStatus.FAILED:
        return f"job {job.id} was refused before it was queued; send it again with valid input"
    return f"job {job.id} is {job.status}; only a FAILED or TIMED_OUT job can be retried"
