"""The work of a server in figures, from the SQL database."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores import usage_statements as sql
from flux_endpoint.stores.database import Database, storable
from flux_endpoint.stores.usage_protocol import Activity, OutcomeCount, Percentiles


class SqlUsage:
    """Implements `UsageStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def activity(self, endpoint_ids: Collection[str], since_ms: int, until_ms: int, unit_ms: int) -> Activity:
        """See `UsageStore.activity`."""
        endpoints = {"endpoints": sorted(storable(endpoint_id) for endpoint_id in endpoint_ids)}
        ended = endpoints | {"since_ms": since_ms, "until_ms": until_ms}

        def work(connection: Connection) -> Activity:
            outcomes = connection.execute(sql.COUNT_OUTCOMES, ended | {"unit_ms": unit_ms}).all()
            unfinished: dict[str, int] = {
                row.status: row.jobs for row in connection.execute(sql.COUNT_WAITING_AND_RUNNING, endpoints)
            }
            return Activity(
                [OutcomeCount(row.start_ms, JobStatus(row.status), row.jobs) for row in outcomes],
                sum(int(row.retries) for row in outcomes),
                _percentiles(connection.execute(sql.EXECUTION_PERCENTILES, ended).one()),
                _percentiles(connection.execute(sql.DELAY_PERCENTILES, ended).one()),
                unfinished.get(JobStatus.IN_QUEUE, 0),
                unfinished.get(JobStatus.IN_PROGRESS, 0),
            )

        return await self._database.read(work)


def _percentiles(row: Row[Any]) -> Percentiles | None:
    return None if row.p70 is None else Percentiles(row.p70, row.p90, row.p98)
