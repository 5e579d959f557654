"""The statements about the work of a server. One text serves SQLite and PostgreSQL; see `statements.py`."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    not_,
    null,
    select,
    text,
)

from flux_endpoint.core.activity import DURATION_BOUNDS_MS
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.sql.schema import cold_starts, is_pressing, is_refused, jobs, ledger

_of_endpoints: ColumnElement[Any] = jobs.c.endpoint_id.in_(bindparam("endpoints", expanding=True))
# The index `jobs_by_end` holds every column that is named below, so that no job's row is read. The expression keeps
# SQLite from another index, that of all jobs of an endpoint: it takes an equality for better than a range.
_in_range = (
    func.coalesce(jobs.c.endpoint_id, "").in_(bindparam("endpoints", expanding=True)),
    jobs.c.finished_ms >= bindparam("since_ms", type_=BigInteger),
    jobs.c.finished_ms < bindparam("until_ms", type_=BigInteger),
)
_start_ms = (jobs.c.finished_ms - jobs.c.finished_ms % bindparam("unit_ms", type_=BigInteger)).label("start_ms")


def _percentiles(grouped: Select[Any]) -> Select[Any]:
    """70, 90 and 98 by nearest rank, and how many there are, of `duration_ms`, of which there are `number` each."""
    # Grouped first: of the sorted rows a window then passes over the different times only.
    times = grouped.subquery("grouped")
    ranked = select(
        times.c.duration_ms,
        func.sum(times.c.number).over(order_by=times.c.duration_ms).label("place"),
        func.sum(times.c.number).over().label("total"),
    ).subquery("ranked")
    # Whole numbers: the smallest place that is not below the share.
    return select(
        *(
            func.min(case((ranked.c.place * 100 >= ranked.c.total * share, ranked.c.duration_ms))).label(f"p{share}")
            for share in (70, 90, 98)
        ),
        func.max(ranked.c.total).label("total"),
    )


def _of_completed(duration_ms: ColumnElement[Any], *whose: ColumnElement[Any]) -> Select[Any]:
    # Two gateways may disagree about the time: see `Job`.
    shown_ms = case((duration_ms < 0, 0), else_=duration_ms).label("duration_ms")
    return (
        select(shown_ms, func.count().label("number"))
        .where(*_in_range, jobs.c.status == JobStatus.COMPLETED.value, jobs.c.started_ms.is_not(None), *whose)
        .group_by(shown_ms)
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """What is asked about the jobs of all keys, or of one."""

    outcomes: Select[Any]
    execution: Select[Any]
    delay: Select[Any]
    waiting_and_running: Select[Any]


def _figures(*, of_key: bool) -> Figures:
    key: BindParameter[Any] = bindparam("key")
    unfinished = (jobs.c.key_id == key,) if of_key else ()
    # See `_in_range`.
    ended = (func.coalesce(jobs.c.key_id, "") == key,) if of_key else ()
    return Figures(
        outcomes=(
            select(_start_ms, jobs.c.status, func.count().label("jobs"), func.sum(jobs.c.retries).label("retries"))
            .where(*_in_range, not_(is_refused), *ended)
            .group_by(_start_ms, jobs.c.status)
            .order_by(_start_ms, jobs.c.status)
        ),
        execution=_percentiles(_of_completed(jobs.c.finished_ms - jobs.c.started_ms, *ended)),
        delay=_percentiles(_of_completed(jobs.c.started_ms - jobs.c.queued_ms, *ended)),
        waiting_and_running=(
            select(jobs.c.status, func.count().label("jobs"))
            .where(
                _of_endpoints, jobs.c.status.in_([JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value]), *unfinished
            )
            .group_by(jobs.c.status)
        ),
    )


FIGURES: Final = _figures(of_key=False)
FIGURES_OF_KEY: Final = _figures(of_key=True)
COLD_START_PERCENTILES: Final = _percentiles(
    # A worker of several endpoints has several rows and started once.
    select(cold_starts.c.duration_ms, func.count(cold_starts.c.worker_id.distinct()).label("number"))
    .where(
        cold_starts.c.endpoint_id.in_(bindparam("endpoints", expanding=True)),
        cold_starts.c.ready_ms >= bindparam("since_ms", type_=BigInteger),
        cold_starts.c.ready_ms < bindparam("until_ms", type_=BigInteger),
    )
    .group_by(cold_starts.c.duration_ms)
)

FIND_COLD_START: Final = select(cold_starts.c.endpoint_id).where(
    cold_starts.c.worker_id == bindparam("worker"),
    cold_starts.c.duration_ms == bindparam("duration_ms", type_=BigInteger),
)
# Text, because SQLAlchemy spells it differently for each database; they agree. It may be told to two gateways at once.
ADD_COLD_START: Final = text(
    "INSERT INTO cold_starts (worker_id, duration_ms, endpoint_id, ready_ms) "
    "VALUES (:worker_id, :duration_ms, :endpoint_id, :ready_ms) ON CONFLICT DO NOTHING"
).bindparams(*(bindparam(column.name, type_=column.type) for column in cold_starts.c))
FORGET_COLD_STARTS: Final = delete(cold_starts).where(cold_starts.c.ready_ms < bindparam("before_ms", type_=BigInteger))

COUNT_UNFINISHED: Final = (
    select(jobs.c.status, func.count().label("jobs"))
    .where(
        jobs.c.endpoint_id == bindparam("endpoint"),
        jobs.c.status.in_([JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value]),
    )
    .group_by(jobs.c.status)
)
_unfinished = [JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value]
QUEUES: Final = (
    select(
        jobs.c.endpoint_id, jobs.c.status, func.count().label("jobs"), func.min(jobs.c.created_ms).label("oldest_ms")
    )
    .where(_of_endpoints, jobs.c.status.in_(_unfinished))
    .group_by(jobs.c.endpoint_id, jobs.c.status)
)
# By an index of their own, since the other does not say which are of low priority.
PRESSING: Final = (
    select(jobs.c.endpoint_id, func.count().label("jobs"))
    .where(_of_endpoints, is_pressing)
    .group_by(jobs.c.endpoint_id)
)


def _piece(duration_ms: ColumnElement[Any]) -> ColumnElement[Any]:
    """Place in `DURATION_BOUNDS_MS`; null of null."""
    bounds = [(duration_ms <= bound_ms, place) for place, bound_ms in enumerate(DURATION_BOUNDS_MS)]
    return case((duration_ms.is_(None), null()), *bounds, else_=len(DURATION_BOUNDS_MS))


_delay_ms = jobs.c.started_ms - jobs.c.queued_ms
_execution_ms = jobs.c.finished_ms - jobs.c.started_ms
_shape = (jobs.c.endpoint_id, jobs.c.status, _piece(_delay_ms).label("delay"), _piece(_execution_ms).label("execution"))
ENDED: Final = (
    select(
        *_shape,
        func.count().label("jobs"),
        func.sum(jobs.c.retries).label("retries"),
        # Two gateways may disagree about the time: see `Job`.
        func.sum(case((_delay_ms > 0, _delay_ms), else_=0)).label("delay_ms"),
        func.sum(case((_execution_ms > 0, _execution_ms), else_=0)).label("execution_ms"),
    )
    .where(*_in_range, not_(is_refused))
    .group_by(jobs.c.endpoint_id, jobs.c.status, literal_column("delay"), literal_column("execution"))
)
PAST_RUNS: Final = (
    select(ledger.c.execution_ms, ledger.c.work, ledger.c.acceleration)
    .where(ledger.c.endpoint_id == bindparam("endpoint"), ledger.c.execution_ms.is_not(None))
    .order_by(ledger.c.seq.desc())
    .limit(bindparam("max_runs", type_=Integer))
)
