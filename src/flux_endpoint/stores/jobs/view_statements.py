"""Questions about many jobs at once. One text serves SQLite and PostgreSQL."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    literal,
    not_,
    null,
    select,
)

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.sql.schema import is_refused, jobs

_of_endpoint: ColumnElement[Any] = jobs.c.endpoint_id == bindparam("endpoint")
_of_key: ColumnElement[Any] = jobs.c.key_id == bindparam("key")


@dataclass(frozen=True, slots=True)
class Counts:
    """What `JobStore.counts` asks."""

    by_status: Select[Any]
    refused: Select[Any]
    retries: Select[Any]


def _counts(*whose: ColumnElement[Any]) -> Counts:
    return Counts(
        select(jobs.c.status, func.count().label("jobs")).where(*whose).group_by(jobs.c.status),
        select(func.count()).select_from(jobs).where(*whose, is_refused),
        select(func.sum(jobs.c.retries)).where(*whose, jobs.c.retries > 0),
    )


COUNTS: Final = _counts(_of_endpoint)
COUNTS_OF_KEY: Final = _counts(_of_endpoint, _of_key)

# How many jobs are claimed before this one. Reads the index `jobs_by_place` only: a job whose time to live is over
# still counts, until the next sweep.
_created_ms = bindparam("created", type_=BigInteger)
_this = jobs.alias("this")
_seq = select(_this.c.seq).where(_this.c.id == bindparam("job")).scalar_subquery()
_ahead = (
    select(jobs.c.seq)
    .where(
        jobs.c.endpoint_id == bindparam("endpoint"),
        jobs.c.status == JobStatus.IN_QUEUE.value,
        jobs.c.created_ms <= _created_ms,
        not_(and_(jobs.c.created_ms == _created_ms, jobs.c.seq >= _seq)),
    )
    .limit(bindparam("max_jobs", type_=Integer))
    .subquery()
)
COUNT_AHEAD: Final = select(func.count()).select_from(_ahead)

# A listing shows figures: what the client sent and got stays where it is, and may be erased already. Errors of
# third-party workers may be as long as a traceback.
_SHOWN_ERROR_CHARS: Final = 1_000
_hidden = {
    "input": literal({}, JSON),
    "error": func.substr(jobs.c.error, 1, _SHOWN_ERROR_CHARS),
    **{name: null() for name in ("output", "webhook", "bucket", "progress", "warnings")},
}
_figures = [_hidden[column.name].label(column.name) if column.name in _hidden else column for column in jobs.c]
_before_ms, _before_seq = (bindparam(name, type_=BigInteger) for name in ("before_ms", "before_seq"))
# The newest first, from a place on. Walks backwards through `jobs_by_arrival`, or `jobs_by_place` for one status.
RECENT: Final = (
    select(*_figures)
    .where(
        jobs.c.endpoint_id == bindparam("endpoint"),
        jobs.c.created_ms <= _before_ms,
        not_(and_(jobs.c.created_ms == _before_ms, jobs.c.seq >= _before_seq)),
    )
    .order_by(jobs.c.created_ms.desc(), jobs.c.seq.desc())
    .limit(bindparam("max_jobs", type_=Integer))
)
RECENT_OF_STATUS: Final = RECENT.where(jobs.c.status == bindparam("wanted"))
# The index `jobs_of_key` has its states one after another.
RECENT_OF_STATUS_AND_KEY: Final = RECENT_OF_STATUS.where(_of_key)
