"""The readers' half of the store: where a job stands, and what has changed since it was seen last."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, Row

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import UnknownJob
from flux_endpoint.core.job import MAX_QUEUE_POSITION, Cursor, Job, JobCounts, JobStatus
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs import view_statements as views
from flux_endpoint.stores.jobs.records import of_key, to_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Database, storable
from flux_endpoint.stores.sql.signals import Deadline, Signals

_NEWEST: Final = Cursor(2**63 - 1, 2**63 - 1)


class SqlViews:
    """Implements the verbs of `JobStore` that only look."""

    def __init__(self, database: Database, signals: Signals, clock: Clock) -> None:
        self._database = database
        self._signals = signals
        self._clock = clock

    @property
    def is_draining(self) -> bool:
        """See `JobStore.is_draining`."""
        return self._signals.is_draining

    async def get(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.get`."""
        reference = self._reference(endpoint_id, job_id)
        return await self._database.read(lambda connection: get_job(connection, reference), is_quick=True)

    async def wait_for_change(self, endpoint_id: str, job_id: str, seen: Job, timeout_s: float) -> Job:
        """See `JobStore.wait_for_change`."""
        deadline = Deadline(timeout_s, self._database.recheck_s)
        name = storable(job_id)
        moments = (channels.end_of(name), channels.chunk_of(name), channels.move_of(name))
        with self._signals.listen(moments) as listener:
            while True:
                job = await self.get(endpoint_id, job_id)
                if job != seen or not await deadline.sleep(listener):
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
        ahead = await self._database.read(lambda connection: connection.scalar(views.COUNT_AHEAD, values))
        return 1 + (ahead or 0)

    async def counts(self, endpoint_id: str, key_id: str | None = None) -> JobCounts:
        """See `JobStore.counts`."""
        values = {"endpoint": storable(endpoint_id)} | of_key(key_id)
        counts = views.COUNTS if key_id is None else views.COUNTS_OF_KEY

        def work(connection: Connection) -> JobCounts:
            jobs: dict[str, int] = {row.status: row.jobs for row in connection.execute(counts.by_status, values)}
            ended_badly = jobs.get(JobStatus.FAILED, 0) + jobs.get(JobStatus.TIMED_OUT, 0)
            return JobCounts(
                in_queue=jobs.get(JobStatus.IN_QUEUE, 0),
                in_progress=jobs.get(JobStatus.IN_PROGRESS, 0),
                completed=jobs.get(JobStatus.COMPLETED, 0),
                failed=ended_badly - (connection.scalar(counts.refused, values) or 0),
                retried=connection.scalar(counts.retries, values) or 0,
            )

        return await self._database.read(work)

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
            "endpoint": storable(endpoint_id),
            "before_ms": place.created_ms,
            "before_seq": place.seq,
            "max_jobs": limit + 1,
        } | of_key(key_id)
        of_status = views.RECENT_OF_STATUS if key_id is None else views.RECENT_OF_STATUS_AND_KEY

        def work(connection: Connection) -> list[Row[Any]]:
            if key_id is None and not statuses:
                return list(connection.execute(views.RECENT, values))
            # One walk for each: together they would pass over all jobs of the other states.
            rows = [
                row
                for status in frozenset(statuses or JobStatus)
                for row in connection.execute(of_status, values | {"wanted": status.value})
            ]
            return sorted(rows, key=lambda row: (row.created_ms, row.seq), reverse=True)

        rows = await self._database.read(work)
        shown = rows[:limit]
        rest = Cursor(shown[-1].created_ms, shown[-1].seq) if len(rows) > limit else None
        return [to_job(row) for row in shown], rest

    def _reference(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """A job as a client names it, now: one whose time is over does not exist."""
        return {"job": storable(job_id), "endpoint": storable(endpoint_id), "now_ms": self._clock.now_ms()}


def get_job(connection: Connection, reference: dict[str, Any]) -> Job:
    """The job of a reference.

    Raises:
        UnknownJob: there is none, or its time is over.
    """
    row = connection.execute(sql.GET_JOB, reference).one_or_none()
    if row is None:
        raise UnknownJob.on(reference["endpoint"], reference["job"])
    return to_job(row)
