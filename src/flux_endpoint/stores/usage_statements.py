"""The statements about the work of a server. One text serves SQLite and PostgreSQL; see `statements.py`."""

from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, case, func, select

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.schema import jobs

_of_endpoints: ColumnElement[Any] = jobs.c.endpoint_id.in_(bindparam("endpoints", expanding=True))
# The index `jobs_by_end` holds every column that is named below, so that no job's row is read. The expression keeps
# SQLite from another index, that of all jobs of an endpoint: it takes an equality for better than a range.
_in_range = (
    func.coalesce(jobs.c.endpoint_id, "").in_(bindparam("endpoints", expanding=True)),
    jobs.c.finished_ms >= bindparam("since_ms", type_=BigInteger),
    jobs.c.finished_ms < bindparam("until_ms", type_=BigInteger),
)
_start_ms = (jobs.c.finished_ms - jobs.c.finished_ms % bindparam("unit_ms", type_=BigInteger)).label("start_ms")

COUNT_OUTCOMES: Final = (
    select(_start_ms, jobs.c.status, func.count().label("jobs"), func.sum(jobs.c.retries).label("retries"))
    .where(*_in_range)
    .group_by(_start_ms, jobs.c.status)
    .order_by(_start_ms, jobs.c.status)
)


def _percentiles(duration_ms: ColumnElement[Any]) -> Select[Any]:
    """70, 90 and 98 by nearest rank, of completed jobs."""
    # Two gateways may disagree about the time: see `Job`.
    shown_ms = case((duration_ms < 0, 0), else_=duration_ms).label("duration_ms")
    # Grouped first: of the sorted rows a window then passes over the different times only.
    grouped = (
        select(shown_ms, func.count().label("jobs"))
        .where(*_in_range, jobs.c.status == JobStatus.COMPLETED.value, jobs.c.started_ms.is_not(None))
        .group_by(shown_ms)
        .subquery("grouped")
    )
    ranked = select(
        grouped.c.duration_ms,
        func.sum(grouped.c.jobs).over(order_by=grouped.c.duration_ms).label("place"),
        func.sum(grouped.c.jobs).over().label("total"),
    ).subquery("ranked")
    # Whole numbers: the smallest place that is not below the share.
    return select(
        *(
            func.min(case((ranked.c.place * 100 >= ranked.c.total * share, ranked.c.duration_ms))).label(f"p{share}")
            for share in (70, 90, 98)
        )
    )


EXECUTION_PERCENTILES: Final = _percentiles(jobs.c.finished_ms - jobs.c.started_ms)
DELAY_PERCENTILES: Final = _percentiles(jobs.c.started_ms - jobs.c.queued_ms)

COUNT_WAITING_AND_RUNNING: Final = (
    select(jobs.c.status, func.count().label("jobs"))
    .where(_of_endpoints, jobs.c.status.in_([JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value]))
    .group_by(jobs.c.status)
)
