"""The work of a server in figures, from the SQL database."""

from collections.abc import Collection, Sequence

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.activity import (
    Activity,
    EndedJobs,
    EndpointLoad,
    OutcomeCount,
    PastRun,
    Percentiles,
    QueueFigures,
)
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.activity import statements as sql
from flux_endpoint.stores.sql.database import Connection, Database, Row, Transaction, of_key


class SqlActivity:
    """Implements `ActivityStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def activity(
        self, endpoint_ids: Collection[str], since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None
    ) -> Activity:
        """See `ActivityStore.activity`."""
        endpoints = {"endpoints": sorted(endpoint_ids)}
        times = {"since_ms": since_ms, "until_ms": until_ms}
        ended = endpoints | times | of_key(key_id)
        figures = sql.FIGURES if key_id is None else sql.FIGURES_OF_KEY

        def activity(connection: Connection) -> Activity:
            outcomes = connection.execute(figures.outcomes, ended | {"unit_ms": unit_ms})
            unfinished: dict[str, int] = {
                row.status: row.jobs
                for row in connection.execute(figures.waiting_and_running, endpoints | of_key(key_id))
            }
            starts = connection.execute(sql.COLD_START_PERCENTILES, endpoints | times).first
            return Activity(
                [OutcomeCount(row.start_ms, JobStatus(row.status), row.jobs) for row in outcomes],
                sum(int(row.retries) for row in outcomes),
                _percentiles(connection.execute(figures.execution, ended).first),
                _percentiles(connection.execute(figures.delay, ended).first),
                int(starts.total or 0),
                _percentiles(starts),
                unfinished.get(JobStatus.IN_QUEUE, 0),
                unfinished.get(JobStatus.IN_PROGRESS, 0),
            )

        return await self._database.read(activity, is_heavy=True)

    async def note_cold_start(
        self, worker_id: str, endpoint_ids: Collection[str], duration_ms: int, ready_ms: int
    ) -> None:
        """See `ActivityStore.note_cold_start`."""
        start = {"worker": worker_id, "duration_ms": duration_ms}
        rows = [
            {"worker_id": start["worker"], "duration_ms": duration_ms, "endpoint_id": name, "ready_ms": ready_ms}
            for name in sorted(set(endpoint_ids))
        ]

        def note_cold_start(transaction: Transaction) -> None:
            if rows and transaction.connection.scalar(sql.FIND_COLD_START, start) is None:
                transaction.connection.execute(sql.ADD_COLD_START, rows)

        await self._database.write(note_cold_start)

    async def load(self, endpoint_id: str) -> EndpointLoad:
        """See `ActivityStore.load`."""
        values = {"endpoint": endpoint_id}
        rows = await self._database.read(
            lambda connection: connection.execute(sql.COUNT_UNFINISHED, values), is_heavy=True
        )
        counts: dict[str, int] = {row.status: row.jobs for row in rows}
        return EndpointLoad(counts.get(JobStatus.IN_QUEUE, 0), counts.get(JobStatus.IN_PROGRESS, 0))

    async def past_runs(self, endpoint_id: str, limit: int) -> Sequence[PastRun]:
        """See `ActivityStore.past_runs`."""
        values = {"endpoint": endpoint_id, "max_runs": limit}
        rows = await self._database.read(lambda connection: connection.execute(sql.PAST_RUNS, values))
        return [PastRun(row.execution_ms, row.work, row.acceleration or Acceleration.NONE) for row in rows]

    async def queues(self, endpoint_ids: Collection[str]) -> Sequence[QueueFigures]:
        """See `ActivityStore.queues`."""
        values = {"endpoints": sorted(endpoint_ids)}

        def count(connection: Connection) -> tuple[Sequence[Row], Sequence[Row]]:
            return connection.execute(sql.QUEUES, values), connection.execute(sql.PRESSING, values)

        rows, pressing_rows = await self._database.read(count, is_heavy=True)
        found = {(row.endpoint_id, row.status): row for row in rows}
        pressing: dict[str, int] = {row.endpoint_id: row.jobs for row in pressing_rows}

        def figures(endpoint_id: str) -> QueueFigures:
            waiting = found.get((endpoint_id, JobStatus.IN_QUEUE))
            running = found.get((endpoint_id, JobStatus.IN_PROGRESS))
            return QueueFigures(
                endpoint_id,
                waiting.jobs if waiting else 0,
                pressing.get(endpoint_id, 0),
                running.jobs if running else 0,
                waiting.oldest_ms if waiting else None,
            )

        return [figures(endpoint_id) for endpoint_id in values["endpoints"]]

    async def ended(self, endpoint_ids: Collection[str], since_ms: int, until_ms: int) -> Sequence[EndedJobs]:
        """See `ActivityStore.ended`."""
        values = {"endpoints": sorted(endpoint_ids), "since_ms": since_ms, "until_ms": until_ms}
        rows = await self._database.read(lambda connection: connection.execute(sql.ENDED, values), is_heavy=True)
        return [
            EndedJobs(
                row.endpoint_id,
                JobStatus(row.status),
                row.jobs,
                int(row.retries),
                row.delay,
                row.execution,
                int(row.delay_ms or 0),
                int(row.execution_ms or 0),
            )
            for row in rows
        ]


def _percentiles(row: Row) -> Percentiles | None:
    return None if row.p70 is None else Percentiles(row.p70, row.p90, row.p98)
