"""How busy an endpoint is, and how long its jobs took, in the SQL database."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Integer, bindparam, func, select

from flux_endpoint.core.activity import EndpointLoad, PastRun
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.sql.database import Database, storable
from flux_endpoint.stores.sql.schema import jobs, ledger

_COUNT_UNFINISHED: Final = (
    select(jobs.c.status, func.count().label("jobs"))
    .where(
        jobs.c.endpoint_id == bindparam("endpoint"),
        jobs.c.status.in_([JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value]),
    )
    .group_by(jobs.c.status)
)
_PAST_RUNS: Final = (
    select(ledger.c.execution_ms, ledger.c.work)
    .where(ledger.c.endpoint_id == bindparam("endpoint"), ledger.c.execution_ms.is_not(None))
    .order_by(ledger.c.seq.desc())
    .limit(bindparam("max_runs", type_=Integer))
)


class SqlLoad:
    """Implements `LoadStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, endpoint_id: str) -> EndpointLoad:
        """See `LoadStore.load`."""
        values = {"endpoint": storable(endpoint_id)}
        rows = await self._database.read(lambda connection: connection.execute(_COUNT_UNFINISHED, values).all())
        counts: dict[str, int] = {row.status: row.jobs for row in rows}
        return EndpointLoad(counts.get(JobStatus.IN_QUEUE, 0), counts.get(JobStatus.IN_PROGRESS, 0))

    async def past_runs(self, endpoint_id: str, limit: int) -> Sequence[PastRun]:
        """See `LoadStore.past_runs`."""
        values = {"endpoint": storable(endpoint_id), "max_runs": limit}
        rows = await self._database.read(lambda connection: connection.execute(_PAST_RUNS, values).all())
        return [PastRun(row.execution_ms, row.work) for row in rows]
