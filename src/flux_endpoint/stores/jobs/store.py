"""Jobs in the SQL database, as those see them who submit and read them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict, UnknownJob
from flux_endpoint.core.job import MAX_QUEUE_POSITION, Cursor, IdempotencyKey, Job, JobCounts, JobStatus
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.stores.accounts.budget import require_budget
from flux_endpoint.stores.jobs import chunk_statements as chunk_sql
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs import view_statements as views
from flux_endpoint.stores.jobs.endings import ended, waits_again
from flux_endpoint.stores.jobs.idempotency import remember, sent_before
from flux_endpoint.stores.jobs.protocol import EndOf
from flux_endpoint.stores.jobs.records import job_values, to_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Connection, Database, Row, Transaction, of_key

# What a new job may be, and whether it has an end.
_NEW: Final = ((JobStatus.IN_QUEUE, False), (JobStatus.FAILED, True))
_NEWEST: Final = Cursor(2**63 - 1, 2**63 - 1)


class SqlJobs:
    """Implements `JobStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def enqueue(self, job: Job, idempotency_key: IdempotencyKey | None = None) -> Job:
        """See `JobStore.enqueue`."""
        if (job.status, job.finished_ms is not None) not in _NEW:
            raise ValueError(f"A new job is IN_QUEUE, or FAILED with finished_ms, not {job.status}")
        values = job_values(job)

        def enqueue(transaction: Transaction) -> Job:
            connection = transaction.connection
            if idempotency_key is not None:
                before = sent_before(connection, job.key_id, job.endpoint_id, idempotency_key, job.created_ms)
                if before is not None:
                    return before
                remember(connection, job, idempotency_key)
            connection.execute(sql.ENQUEUE, values)
            if job.status is JobStatus.IN_QUEUE:
                require_budget(connection, job.key_id, job.cost_usd, job.created_ms)
                transaction.news[channels.jobs_on(job.endpoint_id)] = None
            return job

        is_big = isinstance(job.input, RawJson)
        self._database.has_big_rows |= is_big
        if idempotency_key is None:
            add = partial(_add, job, values)
            if await self._database.write(add, is_heavy=is_big, is_single=True):
                return job
        try:
            return await self._database.write(enqueue, is_heavy=is_big)
        except ValueError:
            if idempotency_key is None:
                raise
            # Another gateway was faster with the same name, by less than a transaction: now it can be seen.
            return await self._database.write(enqueue)

    async def find_submitted(self, endpoint_id: str, key_id: str, idempotency_key: IdempotencyKey) -> Job | None:
        """See `JobStore.find_submitted`."""
        now_ms = self._clock.now_ms()
        return await self._database.read(
            lambda connection: sent_before(connection, key_id, endpoint_id, idempotency_key, now_ms)
        )

    async def set_ttl(self, endpoint_id: str, job_id: str, ttl_ms: int) -> Job:
        """See `JobStore.set_ttl`."""
        reference = self._reference(endpoint_id, job_id)
        values = reference | {"until_ms": reference["now_ms"] + ttl_ms}

        def set_ttl(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.SET_TTL, values).first
            return get_job(transaction.connection, reference) if row is None else to_job(row)

        return await self._database.write(set_ttl, is_heavy=self._database.has_big_rows)

    async def wait(self, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """See `JobStore.wait`."""
        with self.ending(job_id, timeout_s) as end_of:
            return await end_of(await self.get(endpoint_id, job_id))

    @contextmanager
    def ending(self, job_id: str, timeout_s: float) -> Iterator[EndOf]:
        """See `JobStore.ending`."""
        with self._database.signals.listen(channels.end_of(job_id), timeout_s=timeout_s) as listener:

            async def end_of(job: Job) -> Job:
                while not job.status.is_terminal and await listener.sleep():
                    told = listener.job
                    # It ended in this process, which has just written what a look would find.
                    is_readable = told is not None and told.is_readable(told.finished_ms or 0)
                    job = told if told and is_readable else await self.get(job.endpoint_id, job.id)
                return job

            yield end_of

    async def cancel(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.cancel`."""
        reference = self._reference(endpoint_id, job_id)

        def cancel(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.CANCEL, reference).first
            return get_job(transaction.connection, reference) if row is None else ended(transaction, row)

        return await self._database.write(cancel, is_heavy=self._database.has_big_rows)

    async def retry(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.retry`."""
        reference = self._reference(endpoint_id, job_id)

        def retry(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.RETRY, reference).first
            if row is None:
                raise Conflict(_why_no_retry(get_job(transaction.connection, reference)))
            job = to_job(row)
            require_budget(transaction.connection, job.key_id, job.cost_usd, reference["now_ms"])
            waits_again(transaction, row)
            return job

        return await self._database.write(retry, is_heavy=self._database.has_big_rows)

    async def purge(self, endpoint_id: str, key_id: str | None = None) -> int:
        """See `JobStore.purge`."""
        values = {"endpoint": endpoint_id, "now_ms": self._clock.now_ms()} | of_key(key_id)

        def purge(transaction: Transaction) -> int:
            statement = sql.PURGE if key_id is None else sql.PURGE_OF_KEY
            purged = transaction.connection.execute(statement, values)
            for row in purged:
                ended(transaction, row)
            return len(purged)

        return await self._database.write(purge, is_long=True)

    @property
    def is_draining(self) -> bool:
        """See `JobStore.is_draining`."""
        return self._database.signals.is_draining

    async def get(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.get`."""
        reference = self._reference(endpoint_id, job_id)
        return await self._database.read(lambda connection: get_job(connection, reference))

    async def wait_for_change(self, endpoint_id: str, job_id: str, seen: Job, timeout_s: float) -> Job:
        """See `JobStore.wait_for_change`."""
        name = job_id
        moments = (channels.end_of(name), channels.chunk_of(name), channels.move_of(name))
        with self._database.signals.listen(*moments, timeout_s=timeout_s) as listener:
            while True:
                job = await self.get(endpoint_id, job_id)
                if job != seen or not await listener.sleep():
                    return job

    async def queue_position(self, job: Job) -> int | None:
        """See `JobStore.queue_position`."""
        if job.status is not JobStatus.IN_QUEUE:
            return None
        values = {
            "job": job.id,
            "endpoint": job.endpoint_id,
            "created": job.created_ms,
            "max_jobs": MAX_QUEUE_POSITION - 1,
        }
        ahead = await self._database.read(
            lambda connection: connection.scalar(views.COUNT_AHEAD, values), is_heavy=True
        )
        return 1 + (ahead or 0)

    async def counts(self, endpoint_id: str, key_id: str | None = None) -> JobCounts:
        """See `JobStore.counts`."""
        values = {"endpoint": endpoint_id} | of_key(key_id)
        counts = views.COUNTS if key_id is None else views.COUNTS_OF_KEY

        def count_jobs(connection: Connection) -> JobCounts:
            jobs: dict[str, int] = {row.status: row.jobs for row in connection.execute(counts.by_status, values)}
            ended_badly = jobs.get(JobStatus.FAILED, 0) + jobs.get(JobStatus.TIMED_OUT, 0)
            return JobCounts(
                in_queue=jobs.get(JobStatus.IN_QUEUE, 0),
                in_progress=jobs.get(JobStatus.IN_PROGRESS, 0),
                completed=jobs.get(JobStatus.COMPLETED, 0),
                failed=ended_badly - (connection.scalar(counts.refused, values) or 0),
                retried=connection.scalar(counts.retries, values) or 0,
            )

        return await self._database.read(count_jobs, is_heavy=True)

    async def recent(
        self,
        endpoint_id: str,
        statuses: Collection[JobStatus],
        limit: int,
        before: Cursor | None = None,
        key_id: str | None = None,
    ) -> tuple[list[Job], Cursor | None]:
        """See `JobStore.recent`."""
        place = before or _NEWEST
        values = {
            "endpoint": endpoint_id,
            "before_ms": place.created_ms,
            "before_seq": place.seq,
            "max_jobs": limit + 1,
        } | of_key(key_id)
        of_status = views.RECENT_OF_STATUS if key_id is None else views.RECENT_OF_STATUS_AND_KEY

        def recent(connection: Connection) -> list[Row]:
            if key_id is None and not statuses:
                return list(connection.execute(views.RECENT, values))
            # One walk for each: together they would pass over all jobs of the other states.
            rows = [
                row
                for status in frozenset(statuses or JobStatus)
                for row in connection.execute(of_status, values | {"wanted": status.value})
            ]
            return sorted(rows, key=lambda row: (row.created_ms, row.seq), reverse=True)

        rows = await self._database.read(recent, is_heavy=True)
        shown = rows[:limit]
        rest = Cursor(shown[-1].created_ms, shown[-1].seq) if len(rows) > limit else None
        return [to_job(row) for row in shown], rest

    async def take_chunks(self, endpoint_id: str, job_id: str, key_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """See `JobStore.take_chunks`."""
        reader = {"job": job_id, "key": key_id}

        def position(connection: Connection) -> int:
            return connection.scalar(chunk_sql.POSITION, reader) or 0

        def take(transaction: Transaction) -> list[Any]:
            connection = transaction.connection
            connection.execute(chunk_sql.ADD_READER, reader)
            last = connection.scalar(chunk_sql.LOCK_POSITION, reader)
            rows = connection.execute(chunk_sql.READ, {"job": reader["job"], "after": last})
            if rows:
                connection.execute(chunk_sql.MOVE, reader | {"last": rows[-1].seq})
            return [row.output for row in rows]

        job, has_news = await self._wait_for_chunk(endpoint_id, job_id, position, timeout_s)
        # After the job: whoever sees the end has been handed what came before it.
        return job, await self._database.write(take) if has_news else []

    async def chunks_after(
        self, endpoint_id: str, job_id: str, position: int, timeout_s: float
    ) -> tuple[Job, list[Any], int]:
        """See `JobStore.chunks_after`."""
        job, _ = await self._wait_for_chunk(endpoint_id, job_id, lambda _: position, timeout_s)
        unread = {"job": job_id, "after": position}
        rows = await self._database.read(lambda connection: connection.execute(chunk_sql.READ, unread))
        return job, [row.output for row in rows], rows[-1].seq if rows else position

    async def _wait_for_chunk(
        self, endpoint_id: str, job_id: str, position: Callable[[Connection], int], timeout_s: float
    ) -> tuple[Job, bool]:
        """The job, when it is over or has sent something after a position or the time is up; and whether it has."""
        reference = {"job": job_id, "endpoint": endpoint_id}

        def look(connection: Connection) -> tuple[Job, bool]:
            job = get_job(connection, reference | {"now_ms": self._clock.now_ms()})
            unread = {"job": reference["job"], "after": position(connection)}
            return job, bool(connection.scalar(chunk_sql.IS_UNREAD, unread))

        moments = (channels.end_of(reference["job"]), channels.chunk_of(reference["job"]))
        with self._database.signals.listen(*moments, timeout_s=timeout_s) as listener:
            while True:
                job, has_news = await self._database.read(look)
                if has_news or job.status.is_terminal or not await listener.sleep():
                    return job, has_news

    def _reference(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """A job as a client names it, now: one whose time is over does not exist."""
        return {"job": job_id, "endpoint": endpoint_id, "now_ms": self._clock.now_ms()}


def get_job(connection: Connection, reference: dict[str, Any]) -> Job:
    """The job of a reference.

    Raises:
        UnknownJob: there is none, or its time is over.
    """
    row = connection.execute(sql.GET_JOB, reference).first
    if row is None:
        raise UnknownJob.on(reference["endpoint"], reference["job"])
    return to_job(row)


def _add(job: Job, values: dict[str, Any], transaction: Transaction) -> bool:
    """Write a new job, unless its key has a budget; whether it is written."""
    if job.status is not JobStatus.IN_QUEUE:
        transaction.connection.execute(sql.ENQUEUE, values)
        return True
    is_written = transaction.connection.execute(sql.ENQUEUE_UNLIMITED, values).rowcount > 0
    if is_written:
        transaction.news[channels.jobs_on(job.endpoint_id)] = None
    return is_written


def _why_no_retry(job: Job) -> str:
    if job.status is JobStatus.FAILED:
        return f"job {job.id} was refused before it was queued; send it again with valid input"
    return f"job {job.id} is {job.status}; only a FAILED or TIMED_OUT job can be retried"
