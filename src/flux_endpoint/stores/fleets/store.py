"""The agreement of servers on their workers, in the SQL database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Executable, Integer, Select, bindparam, case, delete, func, or_, select, text, update

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.fleets.protocol import Pool, Work
from flux_endpoint.stores.jobs.claim_statements import oldest
from flux_endpoint.stores.sql.database import Connection, Database, Transaction
from flux_endpoint.stores.sql.schema import is_leased, is_pressing, jobs, pools

_of_endpoints = jobs.c.endpoint_id.in_(bindparam("endpoints", expanding=True))
_now_ms = bindparam("now_ms", type_=BigInteger)
_since_ms = bindparam("since_ms", type_=BigInteger)
_max_jobs = bindparam("max_jobs", type_=Integer)


def _counted(waiting: Select[Any]) -> Executable:
    few = waiting.subquery("waiting")
    is_overdue = case((few.c.queued_ms <= _since_ms, 1))
    return select(func.count().label("jobs"), func.count(is_overdue).label("overdue"))


WAITING: Final = _counted(
    select(jobs.c.queued_ms)
    .where(_of_endpoints, is_pressing, or_(jobs.c.expires_ms.is_(None), jobs.c.expires_ms > _now_ms))
    .order_by(jobs.c.created_ms, jobs.c.seq)
    .limit(_max_jobs)
)
# For a database that would read several queues to their ends, to sort them.
WAITING_SIDE_BY_SIDE: Final = _counted(oldest([jobs.c.queued_ms], _max_jobs, is_pressing))
# The first condition is implied by the second; it lets the database use the small index of what is in flight.
RUNNING: Final = (
    select(jobs.c.worker_id, func.count(case((jobs.c.low_priority == 0, 1))).label("jobs"))
    .where(is_leased, jobs.c.status == JobStatus.IN_PROGRESS.value)
    .group_by(jobs.c.worker_id)
)
# Text, because SQLAlchemy spells it differently for each database; they agree. `wanted` is for others to say.
NOTE_POOL: Final = (
    text(
        "INSERT INTO pools (name, min_workers, max_workers, kept, busy, running, seen_ms) "
        "VALUES (:name, :min_workers, :max_workers, :kept, :busy, :running, :seen_ms) "
        "ON CONFLICT (name) DO UPDATE SET min_workers = excluded.min_workers, max_workers = excluded.max_workers, "
        "kept = excluded.kept, busy = excluded.busy, running = excluded.running, seen_ms = excluded.seen_ms "
        "RETURNING wanted"
    )
    .bindparams(*(bindparam(column.name, type_=column.type) for column in pools.c if column is not pools.c.wanted))
    .columns(pools.c.wanted)
)
LIST_POOLS: Final = select(pools).where(pools.c.seen_ms >= _since_ms).order_by(pools.c.name)
SHARE_OUT: Final = (
    update(pools).where(pools.c.name == bindparam("pool")).values(wanted=bindparam("share", type_=Integer))
)
FORGET_POOLS: Final = delete(pools).where(pools.c.seen_ms < _since_ms)


class SqlFleets:
    """Implements `FleetStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def work(self, endpoint_ids: Collection[str], queued_before_ms: int, limit: int) -> Work:
        """See `FleetStore.work`."""
        values = {
            "endpoints": sorted(endpoint_ids),
            "since_ms": queued_before_ms,
            "now_ms": self._clock.now_ms(),
            "max_jobs": limit,
        }

        statement = WAITING_SIDE_BY_SIDE if self._database.sorts_queues else WAITING

        def work(connection: Connection) -> Work:
            waiting = connection.execute(statement, values).first
            running = {row.worker_id: row.jobs for row in connection.execute(RUNNING)}
            return Work(waiting.jobs, waiting.overdue, running)

        return await self._database.read(work, is_heavy=True)

    async def note_pool(self, pool: Pool, now_ms: int) -> int | None:
        """See `FleetStore.note_pool`."""
        values: dict[str, Any] = {
            "name": pool.name,
            "min_workers": pool.min_workers,
            "max_workers": pool.max_workers,
            "kept": pool.kept,
            "busy": pool.busy,
            "running": pool.running,
            "seen_ms": now_ms,
        }

        def note_pool(transaction: Transaction) -> int | None:
            wanted: int | None = transaction.connection.scalar(NOTE_POOL, values)
            return wanted

        return await self._database.write(note_pool)

    async def pools(self, seen_since_ms: int) -> Sequence[Pool]:
        """See `FleetStore.pools`."""
        values = {"since_ms": seen_since_ms}
        rows = await self._database.read(lambda connection: connection.execute(LIST_POOLS, values))
        return [Pool(row.name, row.min_workers, row.max_workers, row.kept, row.busy, row.running) for row in rows]

    async def share_out(self, shares: Mapping[str, int], forget_before_ms: int) -> None:
        """See `FleetStore.share_out`."""
        rows = [{"pool": name, "share": share} for name, share in sorted(shares.items())]

        def share_out(transaction: Transaction) -> None:
            transaction.connection.execute(SHARE_OUT, rows)
            transaction.connection.execute(FORGET_POOLS, {"since_ms": forget_before_ms})

        await self._database.write(share_out)
