"""Jobs in the SQL database, as workers see them: claims, reports and what becomes of lost workers' jobs."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any

from sqlalchemy import Executable

from flux_endpoint.core.affinity import Affinity, WaitingJob, in_turn, lora_set
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.job import Claim, Completed, Failed, Job, JobStatus, Outcome, Returned, SweepResult
from flux_endpoint.core.picture_work import picture_work
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.stores.accounts.budget import charge
from flux_endpoint.stores.jobs import chunk_statements as chunk_sql
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs.claim_statements import CLAIM_OF, IN_ORDER, SIDE_BY_SIDE
from flux_endpoint.stores.jobs.endings import ended, waits_again
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.pictures.statements import NAME
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Connection, Database, Row, Transaction

# How often a claim that found only rows locked by others looks again at once.
_CLAIM_ATTEMPTS = 5
# Among so many a job is looked for that is short, or whose LoRAs a worker has. Their inputs are read at each look: a
# millisecond.
_FIRST_FEW = 64
# How often what other claims have locked is passed over in the order of an affinity, before any will do.
_BEST_FIRST = 4


class SqlClaims:
    """Implements `ClaimStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def claim(
        self,
        worker_id: str,
        endpoint_ids: Collection[str],
        limit: int,
        lease_s: float,
        at_most: int | None = None,
        affinity: Affinity | None = None,
    ) -> list[Claim]:
        """See `ClaimStore.claim`."""
        if limit <= 0 or not endpoint_ids:
            return []
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + round(lease_s * 1_000)
        values: dict[str, Any] = {
            "worker": worker_id,
            "endpoints": sorted(set(endpoint_ids)),
            "max_jobs": limit,
            "now_ms": now_ms,
            "until_ms": expires_ms,
        }

        takes_oldest = at_most is None and affinity is None
        queue = SIDE_BY_SIDE if self._database.sorts_queues and len(values["endpoints"]) > 1 else IN_ORDER
        # Jobs of low priority are none for a worker that is busy with another.
        first = queue.first if at_most is None else queue.pressing

        def claim(transaction: Transaction) -> Sequence[Row]:
            if takes_oldest:
                claimed: Sequence[Row] = transaction.connection.execute(queue.claim, values)
            else:
                claimed = _claim_chosen(transaction.connection, first, values, at_most, affinity)
            for row in claimed:
                transaction.news[channels.move_of(row.id)] = None
            return claimed

        for _ in range(_CLAIM_ATTEMPTS):
            rows = await self._database.write(claim, is_heavy=self._database.has_big_rows, is_single=takes_oldest)
            # PostgreSQL skips rows that others have locked, and may so come back empty while some still wait.
            if rows:
                break
            waiting = {"endpoints": values["endpoints"], "now_ms": now_ms}
            choose = partial(_chosen, first=first, values=waiting, at_most=at_most, affinity=affinity)
            look = methodcaller("execute", queue.is_waiting, waiting) if takes_oldest else choose
            if not await self._database.read(look):
                break
        if any(isinstance(row.input, RawJson) for row in rows):
            self._database.has_big_rows = True
        return [
            Claim(to_job(row), row.worker_id, row.claim_token, expires_ms)
            for row in sorted(rows, key=attrgetter("created_ms", "seq"))
        ]

    async def get(self, job_id: str, endpoint_ids: Collection[str]) -> Job:
        """See `ClaimStore.get`."""
        values = {
            "job": job_id,
            "endpoints": sorted(set(endpoint_ids)),
            "now_ms": self._clock.now_ms(),
        }
        row = await self._database.read(lambda connection: connection.execute(sql.GET_JOB_ON, values).first)
        if row is None:
            raise UnknownJob(f"There is no job {values['job']}")
        return to_job(row)

    async def wait_for_jobs(self, endpoint_ids: Collection[str], timeout_s: float, at_most: int | None = None) -> bool:
        """See `ClaimStore.wait_for_jobs`. Looks before it sleeps: also a job enqueued before the call is found."""
        # A job whose time ends during the wait may count as one that waits: it cannot be claimed.
        values: dict[str, Any] = {"endpoints": sorted(set(endpoint_ids)), "now_ms": self._clock.now_ms()}
        queue = SIDE_BY_SIDE if self._database.sorts_queues and len(values["endpoints"]) > 1 else IN_ORDER
        # Jobs of low priority are none for a worker that is busy with another.
        first = queue.first if at_most is None else queue.pressing
        choose = partial(_chosen, first=first, values=values, at_most=at_most, affinity=None)
        look = methodcaller("execute", queue.is_waiting, values) if at_most is None else choose
        with self._database.signals.listen(*map(channels.jobs_on, endpoint_ids), timeout_s=timeout_s) as listener:
            while not await self._database.read(look):
                if not await listener.sleep(looks_at_end=False):
                    return False
        return True

    async def renew(self, worker_id: str, job_ids: Collection[str], lease_s: float) -> frozenset[str]:
        """See `ClaimStore.renew`."""
        if not job_ids:
            return frozenset()
        values = {
            "worker": worker_id,
            "job_ids": list(job_ids),
            "until_ms": self._clock.now_ms() + round(lease_s * 1_000),
        }
        held = await self._database.write(
            lambda transaction: set(transaction.connection.scalars(sql.RENEW, values)),
            is_heavy=self._database.has_big_rows,
            is_single=True,
        )
        return frozenset(job_ids) - held

    async def finish(self, job_id: str, worker_id: str, token: int | None, outcome: Outcome) -> Job:
        """See `ClaimStore.finish`."""
        now_ms = self._clock.now_ms()
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        match outcome:
            case Completed(output=output):
                statement, values = sql.COMPLETE, reporter | {"result": output, "now_ms": now_ms}
            case Failed(error=error, output=output):
                statement, values = sql.FAIL, reporter | {"reason": error, "result": output, "now_ms": now_ms}
            case Returned():
                statement, values = sql.GIVE_BACK, reporter

        def finish(transaction: Transaction) -> Job:
            row = transaction.connection.execute(statement, values).first
            # The reporter does not hold it, and nothing was written.
            if row is None:
                return _as_reported_before(transaction.connection, reporter, outcome)
            if row.status == JobStatus.IN_QUEUE:
                waits_again(transaction, row)
                return to_job(row)
            job = ended(transaction, row)
            if isinstance(outcome, Completed):
                for key in outcome.pictures:
                    # One that was reserved for a claim is its job's from now on: nobody takes it for an orphan.
                    named = {"job": job.id, "claim": job.claim_token, "picture": key}
                    if transaction.connection.execute(NAME, named).rowcount == 0:
                        raise LeaseLost(f"The picture of the job {job.id} is not here any more")
                charge(transaction.connection, job, now_ms)
            return job

        is_big = isinstance(outcome, Completed | Failed) and isinstance(outcome.output, RawJson)
        return await self._database.write(finish, is_heavy=is_big or self._database.has_big_rows)

    async def append_chunk(
        self,
        job_id: str,
        worker_id: str,
        token: int | None,
        output: Any,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """See `ClaimStore.append_chunk`."""
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        values = {"job_id": reporter["job"], "output": output}

        def append_chunk(transaction: Transaction) -> None:
            if transaction.connection.scalar(sql.LOCK_HELD_BY_REPORTER, reporter) is None:
                raise _not_held(transaction.connection, reporter)
            transaction.connection.execute(chunk_sql.APPEND, values)
            if progress is not None:
                transaction.connection.execute(sql.SET_PROGRESS, reporter | {"news": dict(progress)})
            transaction.news[channels.chunk_of(values["job_id"])] = None

        await self._database.write(append_chunk, is_heavy=isinstance(output, RawJson) or self._database.has_big_rows)

    async def set_progress(self, job_id: str, worker_id: str, token: int | None, progress: Mapping[str, Any]) -> None:
        """See `ClaimStore.set_progress`."""
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        values = reporter | {"news": dict(progress)}

        def set_progress(transaction: Transaction) -> None:
            if transaction.connection.execute(sql.SET_PROGRESS, values).rowcount == 0:
                raise _not_held(transaction.connection, reporter)
            transaction.news[channels.chunk_of(job_id)] = None

        await self._database.write(set_progress, is_heavy=self._database.has_big_rows)

    async def hand_over(
        self, job_id: str, worker_id: str, token: int | None, holder: str, lease_s: float
    ) -> Job | None:
        """See `ClaimStore.hand_over`."""
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        until_ms = self._clock.now_ms() + round(lease_s * 1_000)

        def hand_over(transaction: Transaction) -> Job | None:
            values = reporter | {"holder": holder, "until_ms": until_ms}
            row = transaction.connection.execute(sql.HAND_OVER, values).first
            if row is None:
                require_taken_before(transaction.connection, reporter)
                return None
            return to_job(row)

        return await self._database.write(hand_over, is_heavy=self._database.has_big_rows)

    async def wait_for_stops(self, worker_id: str, timeout_s: float) -> list[str]:
        """See `ClaimStore.wait_for_stops`."""
        worker = {"worker": worker_id}
        with self._database.signals.listen(channels.stop_for(worker["worker"]), timeout_s=timeout_s) as listener:
            while True:
                # Asked first: most calls find nothing, and need not queue for the writer.
                if await self._database.read(lambda connection: connection.scalar(sql.IS_STOP_WAITING, worker)):
                    stops = await self._database.write(
                        lambda transaction: list(transaction.connection.scalars(sql.TAKE_STOPS, worker))
                    )
                    if stops:
                        return stops
                if not await listener.sleep(looks_at_end=False):
                    return []

    async def release(self, worker_id_prefix: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        """See `ClaimStore.release`."""
        prefix = worker_id_prefix
        workers = {"prefix": prefix, "prefix_chars": len(prefix)}
        values = workers | {
            "now_ms": self._clock.now_ms(),
            "retry": int(counts_as_retry),
            "max_retries": max_retries,
        }

        def release(transaction: Transaction) -> SweepResult:
            transaction.connection.execute(sql.FORGET_STOPS_OF_GONE, workers)
            return _swept(transaction, transaction.connection.execute(sql.TAKE_BACK_FROM_GONE, values))

        return await self._database.write(release, is_long=True)

    async def release_worker(self, worker_id: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        """See `ClaimStore.release_worker`."""
        values = {
            "worker": worker_id,
            "now_ms": self._clock.now_ms(),
            "retry": 1 if counts_as_retry else 0,
            "max_retries": max_retries,
        }
        return await self._database.write(
            lambda transaction: _swept(transaction, transaction.connection.execute(sql.TAKE_BACK_FROM, values))
        )

    async def release_jobs(
        self, worker_id: str, job_ids: Collection[str], *, counts_as_retry: bool, max_retries: int, error: str
    ) -> SweepResult:
        """See `ClaimStore.release_jobs`."""
        values = {
            "worker": worker_id,
            "job_ids": list(job_ids),
            "now_ms": self._clock.now_ms(),
            "retry": 1 if counts_as_retry else 0,
            "max_retries": max_retries,
            "reason": error,
        }
        return await self._database.write(
            lambda transaction: _swept(transaction, transaction.connection.execute(sql.TAKE_BACK_JOBS, values))
        )

    async def sweep(self, max_retries: int, *, spares_leases: bool = False) -> SweepResult:
        """See `ClaimStore.sweep`."""
        now = {"now_ms": self._clock.now_ms()}
        values = now | {"retry": 1, "max_retries": max_retries}

        def sweep(transaction: Transaction) -> SweepResult:
            transaction.connection.execute(sql.LOCK_SWEPT, now)
            # First, so that a job whose time is over is not put back into the queue.
            timed_out = [
                ended(transaction, row).id
                for statement in (sql.END_OUTLIVED, sql.TIME_OUT_RUNNING)
                for row in transaction.connection.execute(statement, now)
            ]
            lost = () if spares_leases else transaction.connection.execute(sql.TAKE_BACK_EXPIRED, values)
            return dataclasses.replace(_swept(transaction, lost), timed_out=tuple(timed_out))

        # Asked first: most sweeps find nothing, and need not queue for the writer.
        if not await self._database.read(lambda connection: connection.scalars(sql.FIND_SWEPT, now)):
            return SweepResult()
        return await self._database.write(sweep, is_long=True)


def _chosen(
    connection: Connection,
    first: Executable,
    values: Mapping[str, Any],
    at_most: int | None,
    affinity: Affinity | None,
) -> list[int]:
    """Of the first few jobs that wait, the sequence numbers of those that a worker may be handed, best first."""
    few = {"endpoints": values["endpoints"], "now_ms": values["now_ms"], "max_jobs": _FIRST_FEW}
    rows: Sequence[Row] = connection.execute(first, few)
    if at_most is not None:
        works = ((row, picture_work(row.input)) for row in rows)
        rows = [row for row, work in works if work is not None and work <= at_most]
    if affinity is None:
        return [row.seq for row in rows]
    waiting = [WaitingJob(row.seq, row.created_ms, lora_set(row.endpoint_id, row.input)) for row in rows]
    return in_turn(waiting, affinity, values["now_ms"])


def _claim_chosen(
    connection: Connection,
    first: Executable,
    values: Mapping[str, Any],
    at_most: int | None,
    affinity: Affinity | None,
) -> Sequence[Row]:
    seqs = _chosen(connection, first, values, at_most, affinity)
    limit = values["max_jobs"]
    for _ in range(_BEST_FIRST):
        if affinity is None or len(seqs) <= limit:
            break
        best: Sequence[Row] = connection.execute(CLAIM_OF, {**values, "seqs": seqs[:limit]})
        if best:
            return best
        # On PostgreSQL other claims have locked just these.
        seqs = seqs[limit:]
    return connection.execute(CLAIM_OF, {**values, "seqs": seqs}) if seqs else []


def _as_reported_before(connection: Connection, reporter: dict[str, Any], outcome: Outcome) -> Job:
    """The job, when the same report was written earlier: its answer was lost on the way to the worker."""
    row = connection.execute(sql.GET_JOB_BY_ID, {"job": reporter["job"]}).first
    if row is None:
        raise UnknownJob(f"There is no job {reporter['job']}")
    is_same_outcome = (isinstance(outcome, Completed) and row.status == JobStatus.COMPLETED) or (
        isinstance(outcome, Failed) and row.status == JobStatus.FAILED
    )
    if not (_is_of(row, reporter) and is_same_outcome):
        raise _not_held(connection, reporter)
    return to_job(row)


def _not_held(connection: Connection, reporter: dict[str, Any]) -> LeaseLost | UnknownJob:
    """Why a report is refused."""
    row = connection.execute(sql.GET_JOB_BY_ID, {"job": reporter["job"]}).first
    if row is None:
        return UnknownJob(f"There is no job {reporter['job']}")
    if _is_held(row, reporter):
        return LeaseLost(f"The time to live of the job {row.id} is over")
    return LeaseLost(f"The worker {reporter['worker']} does not hold the job {row.id}, which is {row.status}")


def require_taken_before(connection: Connection, reporter: dict[str, Any]) -> None:
    """Nothing, when the reporter's picture was taken earlier and only the answer was lost on its way to the worker.

    Raises:
        LeaseLost: the reporter has lost the job.
        UnknownJob: no such job.
    """
    row = connection.execute(sql.GET_JOB_BY_ID, {"job": reporter["job"]}).first
    if row is not None and reporter["token"] in (None, row.claim_token):
        is_completed = row.worker_id == reporter["worker"] and row.status == JobStatus.COMPLETED
        if is_completed or row.drawn_by == reporter["worker"]:
            return
    raise _not_held(connection, reporter)


def _is_held(row: Row, reporter: dict[str, Any]) -> bool:
    return row.status == JobStatus.IN_PROGRESS and _is_of(row, reporter)


def _is_of(row: Row, reporter: dict[str, Any]) -> bool:
    return row.worker_id == reporter["worker"] and reporter["token"] in (None, row.claim_token)


def _swept(transaction: Transaction, rows: Sequence[Row]) -> SweepResult:
    requeued = [row for row in rows if row.status == JobStatus.IN_QUEUE]
    failed = [row for row in rows if row.status == JobStatus.FAILED]
    for row in requeued:
        waits_again(transaction, row)
    for row in failed:
        ended(transaction, row)
    return SweepResult(requeued=tuple(row.id for row in requeued), failed=tuple(row.id for row in failed))
