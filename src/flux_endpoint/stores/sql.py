"""The store: jobs, keys and charges in one SQL database. The statements are in `statements.py`."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict, LeaseLost, UnknownJob
from flux_endpoint.core.job import Claim, Completed, Failed, Job, JobCounts, JobStatus, Outcome, Returned
from flux_endpoint.stores import statements as sql
from flux_endpoint.stores.database import Database, Transaction, storable
from flux_endpoint.stores.ledger import SqlLedger
from flux_endpoint.stores.protocol import SweepResult
from flux_endpoint.stores.records import charge_values, job_values, to_job
from flux_endpoint.stores.signals import Deadline, Signals, Topic

# How often a claim that found only rows locked by others looks again at once.
_CLAIM_ATTEMPTS = 5
# Deleting this many takes milliseconds; nobody else can write to SQLite meanwhile.
_FORGET_AT_ONCE = 500


class SqlStore(SqlLedger):
    """Implements `JobStore` and, inherited, `Ledger`. Open it with `connect.open_store`."""

    def __init__(self, database: Database, signals: Signals, clock: Clock) -> None:
        super().__init__(database)
        self._signals = signals
        self._clock = clock

    def drain(self) -> None:
        """Answer everybody who waits, now and from now on, with what there is: the process is about to end."""
        self._signals.drain()

    async def close(self) -> None:
        """Let running work end and let go of the database. Whoever still waits gets `StoreUnavailable`."""
        await self._database.close()
        self._signals.fire_all()

    async def enqueue(self, job: Job) -> None:
        """See `JobStore.enqueue`."""
        if job.status not in (JobStatus.IN_QUEUE, JobStatus.FAILED):
            raise ValueError(f"A new job is IN_QUEUE or FAILED, not {job.status}")
        if job.status.is_terminal != (job.finished_ms is not None):
            raise ValueError("finished_ms belongs to a job that is FAILED, and only to that")
        values = job_values(job)

        def work(transaction: Transaction) -> None:
            transaction.connection.execute(sql.ENQUEUE, values)
            if job.status is JobStatus.IN_QUEUE:
                transaction.wake(_work_on(job.endpoint_id))

        await self._database.write(work)

    async def get(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.get`."""
        job, endpoint = storable(job_id), storable(endpoint_id)
        return await self._database.read(lambda connection: _get_job(connection, endpoint, job))

    async def wait(self, endpoint_id: str, job_id: str, timeout_s: float) -> Job:
        """See `JobStore.wait`."""
        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen([_end_of(job_id)]) as listener:
            while True:
                job = await self.get(endpoint_id, job_id)
                if job.status.is_terminal or not await deadline.sleep(listener):
                    return job

    async def cancel(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.cancel`."""
        values: dict[str, Any] = {
            "job": storable(job_id),
            "endpoint": storable(endpoint_id),
            "now_ms": self._clock.now_ms(),
        }

        def work(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.CANCEL, values).one_or_none()
            if row is None:
                return _get_job(transaction.connection, values["endpoint"], values["job"])
            transaction.wake(_end_of(row.id))
            if row.lease_expires_ms is not None:
                transaction.wake(_stop_for(row.worker_id))
            return to_job(row)

        return await self._database.write(work)

    async def retry(self, endpoint_id: str, job_id: str) -> Job:
        """See `JobStore.retry`."""
        job, endpoint = storable(job_id), storable(endpoint_id)
        values = {"job": job, "endpoint": endpoint, "now_ms": self._clock.now_ms()}

        def work(transaction: Transaction) -> Job:
            row = transaction.connection.execute(sql.RETRY, values).one_or_none()
            if row is None:
                found = _get_job(transaction.connection, endpoint, job)
                raise Conflict(_why_no_retry(found))
            transaction.wake(_work_on(row.endpoint_id))
            return to_job(row)

        return await self._database.write(work)

    async def purge(self, endpoint_id: str) -> int:
        """See `JobStore.purge`."""
        values = {"endpoint": storable(endpoint_id), "now_ms": self._clock.now_ms()}

        def work(transaction: Transaction) -> int:
            purged = transaction.connection.scalars(sql.PURGE, values).all()
            for job_id in purged:
                transaction.wake(_end_of(job_id))
            return len(purged)

        return await self._database.write(work)

    async def claim(self, worker_id: str, endpoint_ids: Collection[str], limit: int, lease_s: float) -> list[Claim]:
        """See `JobStore.claim`."""
        if limit <= 0 or not endpoint_ids:
            return []
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + round(lease_s * 1_000)
        values: dict[str, Any] = {
            "worker": storable(worker_id),
            "endpoints": [storable(endpoint_id) for endpoint_id in endpoint_ids],
            "max_jobs": limit,
            "now_ms": now_ms,
            "expires_ms": expires_ms,
        }
        for _ in range(_CLAIM_ATTEMPTS):
            rows = await self._database.write(
                lambda transaction: transaction.connection.execute(sql.CLAIM, values).all()
            )
            # PostgreSQL skips rows that others have locked, and may so come back empty while some still wait.
            if rows or not await self._is_work_waiting(values["endpoints"]):
                break
        return [
            Claim(to_job(row), row.worker_id, row.claim_token, expires_ms)
            for row in sorted(rows, key=lambda row: (row.created_ms, row.seq))
        ]

    async def wait_for_work(self, endpoint_ids: Collection[str], timeout_s: float) -> bool:
        """See `JobStore.wait_for_work`. Looks before it sleeps: also a job enqueued before the call is found."""
        endpoints = [storable(endpoint_id) for endpoint_id in endpoint_ids]
        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen(map(_work_on, endpoints)) as listener:
            while not await self._is_work_waiting(endpoints):
                if not await deadline.sleep(listener):
                    return False
        return True

    async def _is_work_waiting(self, endpoints: Sequence[str]) -> bool:
        return await self._database.read(
            lambda connection: bool(connection.scalar(sql.IS_WORK_WAITING, {"endpoints": endpoints}))
        )

    async def renew(self, worker_id: str, job_ids: Collection[str], lease_s: float) -> frozenset[str]:
        """See `JobStore.renew`."""
        if not job_ids:
            return frozenset()
        values = {
            "worker": storable(worker_id),
            "job_ids": [storable(job_id) for job_id in job_ids],
            "expires_ms": self._clock.now_ms() + round(lease_s * 1_000),
        }
        held = await self._database.write(lambda transaction: set(transaction.connection.scalars(sql.RENEW, values)))
        return frozenset(job_ids) - held

    async def finish(self, job_id: str, worker_id: str, token: int | None, outcome: Outcome) -> Job:
        """See `JobStore.finish`."""
        now_ms = self._clock.now_ms()
        reporter = {"job": storable(job_id), "worker": storable(worker_id), "token": token}

        def work(transaction: Transaction) -> Job:
            row = _end_claim(transaction.connection, reporter, outcome, now_ms)
            if row is None:
                return _as_reported_before(transaction.connection, reporter, outcome)
            job = to_job(row)
            if isinstance(outcome, Completed):
                transaction.connection.execute(sql.CHARGE, charge_values(job, now_ms))
            transaction.wake(_end_of(job.id) if job.status.is_terminal else _work_on(job.endpoint_id))
            return job

        return await self._database.write(work)

    async def append_chunk(self, job_id: str, worker_id: str, token: int | None, output: Any) -> None:
        """See `JobStore.append_chunk`."""
        reporter = {"job": storable(job_id), "worker": storable(worker_id), "token": token}
        values = {"job_id": reporter["job"], "output": output}

        def work(transaction: Transaction) -> None:
            if not transaction.connection.scalar(sql.IS_HELD_BY_REPORTER, reporter):
                raise _not_held(transaction.connection, reporter)
            transaction.connection.execute(sql.APPEND_CHUNK, values)
            transaction.wake(_chunk_of(values["job_id"]))

        await self._database.write(work)

    async def take_chunks(self, endpoint_id: str, job_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        """See `JobStore.take_chunks`."""
        job, endpoint = storable(job_id), storable(endpoint_id)

        def work(transaction: Transaction) -> tuple[Job, list[Any]]:
            found = _get_job(transaction.connection, endpoint, job)
            rows = transaction.connection.execute(sql.TAKE_CHUNKS, {"job": job}).all()
            return found, [row.output for row in sorted(rows, key=lambda row: row.seq)]

        def is_worth_it(connection: Connection) -> bool:
            found = _get_job(connection, endpoint, job)
            return found.status.is_terminal or bool(connection.scalar(sql.IS_CHUNK_WAITING, {"job": job}))

        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen([_end_of(job), _chunk_of(job)]) as listener:
            # Asked first: most calls find nothing, and need not queue for the writer.
            while not await self._database.read(is_worth_it):
                if not await deadline.sleep(listener):
                    break
        return await self._database.write(work)

    async def wait_for_stops(self, worker_id: str, timeout_s: float) -> list[str]:
        """See `JobStore.wait_for_stops`."""
        worker = {"worker": storable(worker_id)}
        deadline = Deadline(timeout_s, self._database.recheck_s)
        with self._signals.listen([_stop_for(worker["worker"])]) as listener:
            while True:
                # Asked first: most calls find nothing, and need not queue for the writer.
                if await self._database.read(lambda connection: connection.scalar(sql.IS_STOP_WAITING, worker)):
                    stops = await self._database.write(
                        lambda transaction: list(transaction.connection.scalars(sql.TAKE_STOPS, worker))
                    )
                    if stops:
                        return stops
                if not await deadline.sleep(listener):
                    return []

    async def release(self, worker_id_prefix: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        """See `JobStore.release`."""
        prefix = storable(worker_id_prefix)
        workers = {"prefix": prefix, "prefix_chars": len(prefix)}
        values = workers | {
            "now_ms": self._clock.now_ms(),
            "retry": int(counts_as_retry),
            "max_retries": max_retries,
        }

        def work(transaction: Transaction) -> SweepResult:
            transaction.connection.execute(sql.FORGET_STOPS_OF_GONE, workers)
            return _swept(transaction, transaction.connection.execute(sql.TAKE_BACK_FROM_GONE, values).all())

        return await self._database.write(work)

    async def sweep(self, max_retries: int) -> SweepResult:
        """See `JobStore.sweep`."""
        values = {"now_ms": self._clock.now_ms(), "retry": 1, "max_retries": max_retries}
        return await self._database.write(
            lambda transaction: _swept(transaction, transaction.connection.execute(sql.TAKE_BACK_EXPIRED, values).all())
        )

    async def counts(self, endpoint_id: str) -> JobCounts:
        """See `JobStore.counts`; TIMED_OUT counts as failed, CANCELLED as nothing."""
        endpoint = {"endpoint": storable(endpoint_id)}

        def work(connection: Connection) -> JobCounts:
            jobs: dict[str, int] = {row.status: row.jobs for row in connection.execute(sql.COUNT_BY_STATUS, endpoint)}
            return JobCounts(
                in_queue=jobs.get(JobStatus.IN_QUEUE, 0),
                in_progress=jobs.get(JobStatus.IN_PROGRESS, 0),
                completed=jobs.get(JobStatus.COMPLETED, 0),
                failed=jobs.get(JobStatus.FAILED, 0) + jobs.get(JobStatus.TIMED_OUT, 0),
                retried=connection.scalar(sql.COUNT_RETRIES, endpoint) or 0,
            )

        return await self._database.read(work)

    async def forget(self, finished_before_ms: int) -> int:
        """See `JobStore.forget`."""
        values = {"before_ms": finished_before_ms, "max_jobs": _FORGET_AT_ONCE}
        forgotten = 0
        while True:
            batch = await self._database.write(lambda transaction: _forget(transaction.connection, values))
            forgotten += batch
            if batch < _FORGET_AT_ONCE:
                return forgotten


def _end_of(job_id: str) -> Topic:
    return Topic("end of job", job_id)


def _chunk_of(job_id: str) -> Topic:
    return Topic("chunk of job", job_id)


def _work_on(endpoint_id: str) -> Topic:
    return Topic("work on endpoint", endpoint_id)


def _stop_for(worker_id: str) -> Topic:
    return Topic("stop for worker", worker_id)


def _get_job(connection: Connection, endpoint_id: str, job_id: str) -> Job:
    row = connection.execute(sql.GET_JOB, {"job": job_id, "endpoint": endpoint_id}).one_or_none()
    if row is None:
        raise UnknownJob(f"There is no job {job_id} on the endpoint {endpoint_id}")
    return to_job(row)


def _why_no_retry(job: Job) -> str:
    if job.status is JobStatus.FAILED:
        return f"job {job.id} was refused before it was queued; send it again with valid input"
    return f"job {job.id} is {job.status}; only a FAILED or TIMED_OUT job can be retried"


def _end_claim(connection: Connection, reporter: dict[str, Any], outcome: Outcome, now_ms: int) -> Row[Any] | None:
    """Write the outcome if the reporter holds the job; None, and nothing written, if it does not."""
    match outcome:
        case Completed(output=output):
            values = reporter | {"result": dict(output), "now_ms": now_ms}
            return connection.execute(sql.COMPLETE, values).one_or_none()
        case Failed(error=error):
            values = reporter | {"reason": storable(error), "now_ms": now_ms}
            return connection.execute(sql.FAIL, values).one_or_none()
        case Returned():
            return connection.execute(sql.GIVE_BACK, reporter).one_or_none()


def _as_reported_before(connection: Connection, reporter: dict[str, Any], outcome: Outcome) -> Job:
    """The job, when the same report was written earlier: its answer was lost on the way to the worker."""
    row = connection.execute(sql.GET_JOB_BY_ID, {"job": reporter["job"]}).one_or_none()
    if row is None:
        raise UnknownJob(f"There is no job {reporter['job']}")
    is_same_reporter = row.worker_id == reporter["worker"] and reporter["token"] in (None, row.claim_token)
    is_same_outcome = (isinstance(outcome, Completed) and row.status == JobStatus.COMPLETED) or (
        isinstance(outcome, Failed) and row.status == JobStatus.FAILED
    )
    if not (is_same_reporter and is_same_outcome):
        raise _not_held(connection, reporter)
    return to_job(row)


def _not_held(connection: Connection, reporter: dict[str, Any]) -> LeaseLost | UnknownJob:
    row = connection.execute(sql.GET_JOB_BY_ID, {"job": reporter["job"]}).one_or_none()
    if row is None:
        return UnknownJob(f"There is no job {reporter['job']}")
    return LeaseLost(f"The worker {reporter['worker']} does not hold the job {row.id}, which is {row.status}")


def _forget(connection: Connection, values: dict[str, Any]) -> int:
    forgotten = connection.scalars(sql.FORGET, values).all()
    if forgotten:
        connection.execute(sql.FORGET_CHUNKS, {"job_ids": forgotten})
    return len(forgotten)


def _swept(transaction: Transaction, rows: Sequence[Row[Any]]) -> SweepResult:
    requeued = [row for row in rows if row.status == JobStatus.IN_QUEUE]
    failed = [row for row in rows if row.status == JobStatus.FAILED]
    for row in requeued:
        transaction.wake(_work_on(row.endpoint_id))
    for row in failed:
        transaction.wake(_end_of(row.id))
    return SweepResult(requeued=tuple(row.id for row in requeued), failed=tuple(row.id for row in failed))
