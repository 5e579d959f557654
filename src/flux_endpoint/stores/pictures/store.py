"""The pictures' part of the store: whose they are while they are on their way."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.stores.jobs.claims import not_held
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.jobs.statements import GET_JOB_BY_ID, LOCK_HELD_BY_REPORTER
from flux_endpoint.stores.pictures import statements as sql
from flux_endpoint.stores.sql.database import Database, Transaction, storable


class SqlPictures:
    """Implements `PictureStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve_picture(self, job_id: str, worker_id: str, token: int | None, key: str) -> str | None:
        """See `PictureStore.reserve_picture`."""
        reporter = {"job": storable(job_id), "worker": storable(worker_id), "token": token}
        now_ms = self._clock.now_ms()

        def work(transaction: Transaction) -> str | None:
            connection = transaction.connection
            held = connection.execute(LOCK_HELD_BY_REPORTER, reporter).one_or_none()
            if held is None:
                _require_taken_before(connection, reporter)
                return None
            claim = {"job": reporter["job"], "claim": held.claim_token, "now_ms": now_ms}
            reserved = connection.execute(sql.RESERVE_AGAIN, claim).one_or_none()
            if reserved is not None:
                return str(reserved.key)
            values = {"key": key, "job_id": reporter["job"], "claim_token": held.claim_token, "reserved_ms": now_ms}
            connection.execute(sql.RESERVE, values)
            return key

        return await self._database.write(work, is_quick=True)

    async def hand_over(
        self, job_id: str, worker_id: str, token: int | None, holder: str, lease_s: float
    ) -> Job | None:
        """See `PictureStore.hand_over`."""
        reporter = {"job": storable(job_id), "worker": storable(worker_id), "token": token}
        until_ms = self._clock.now_ms() + round(lease_s * 1_000)

        def work(transaction: Transaction) -> Job | None:
            values = reporter | {"holder": holder, "until_ms": until_ms}
            row = transaction.connection.execute(sql.HAND_OVER, values).one_or_none()
            if row is None:
                _require_taken_before(transaction.connection, reporter)
                return None
            return to_job(row)

        return await self._database.write(work, is_quick=True)

    async def orphaned_pictures(self, reserved_before_ms: int, limit: int) -> Sequence[str]:
        """See `PictureStore.orphaned_pictures`."""
        values = {"before_ms": reserved_before_ms, "max_pictures": limit}
        return await self._database.read(lambda connection: list(connection.scalars(sql.ORPHANS, values)))

    async def forget_pictures(self, keys: Collection[str]) -> None:
        """See `PictureStore.forget_pictures`."""
        if keys:
            values = {"keys": list(keys)}
            await self._database.write(lambda transaction: transaction.connection.execute(sql.FORGET, values))


def _require_taken_before(connection: Connection, reporter: dict[str, Any]) -> None:
    """Nothing, when the reporter's picture was taken earlier and only the answer was lost on its way to the worker.

    Raises:
        LeaseLost: the reporter has lost the job.
        UnknownJob: no such job.
    """
    row = connection.execute(GET_JOB_BY_ID, {"job": reporter["job"]}).one_or_none()
    if row is not None and reporter["token"] in (None, row.claim_token):
        is_completed = row.worker_id == reporter["worker"] and row.status == JobStatus.COMPLETED
        if is_completed or row.drawn_by == reporter["worker"]:
            return
    raise not_held(connection, reporter)
