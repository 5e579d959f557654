"""The statements by which a worker finds jobs that wait, and claims them; see `statements.py` for the rules."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    column,
    func,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.jobs.statements import may_become, unexpired
from flux_endpoint.stores.sql.schema import is_pressing, jobs

_of_endpoints: ColumnElement[Any] = jobs.c.endpoint_id.in_(bindparam("endpoints", expanding=True))
_waits: ColumnElement[Any] = may_become(JobStatus.IN_PROGRESS)
# To choose by.
_KNOWN: Final = (jobs.c.seq, jobs.c.created_ms, jobs.c.endpoint_id, jobs.c.input)
_claim_order = (jobs.c.created_ms, jobs.c.seq)
_max_jobs: BindParameter[Any] = bindparam("max_jobs", type_=Integer)
_named: ColumnElement[Any] = jobs.c.seq.in_(bindparam("seqs", expanding=True))
# Of the oldest jobs of several endpoints so many more are looked at than claimed: others may have locked the first.
_MORE: Final = 16


@dataclass(frozen=True)
class _Statements:
    """What a worker asks of the queue of its endpoints.

    Attributes:
        is_waiting: any job that waits.
        claim: IN_QUEUE -> IN_PROGRESS, the oldest.
        first: what is to be known of the first that wait, to choose from. They may be a few of very many.
        pressing: the same, of those that are not of low priority.
    """

    is_waiting: Select[Any]
    claim: ReturningUpdate[Any]
    first: Select[Any]
    pressing: Select[Any]


# PostgreSQL runs claimers side by side: each skips the rows another one has locked. The rows are chosen in a CTE
# because PostgreSQL may run a plain subquery twice and lock more than `max_jobs`.
def _claim(waiting: Select[Any]) -> ReturningUpdate[Any]:
    oldest = waiting.order_by(*_claim_order).limit(_max_jobs).with_for_update(skip_locked=True).cte("oldest")
    return (
        update(jobs)
        .where(jobs.c.seq.in_(select(oldest.c.seq)))
        .values(
            status=JobStatus.IN_PROGRESS.value,
            worker_id=bindparam("worker"),
            drawn_by=None,
            claim_token=jobs.c.claim_token + 1,
            started_ms=bindparam("now_ms", type_=BigInteger),
            lease_expires_ms=bindparam("until_ms", type_=BigInteger),
        )
        .returning(jobs)
    )


# Of some that were read before, in the same transaction. Their endpoint is known: named here, it would make PostgreSQL
# read its queue when it has no statistics.
CLAIM_OF: Final = _claim(select(jobs.c.seq).where(_waits, _named, unexpired))


def _known(waiting: Select[Any]) -> Select[Any]:
    first = waiting.order_by(*_claim_order).limit(_max_jobs)
    return select(*_KNOWN).where(jobs.c.seq.in_(first)).order_by(*_claim_order)


# One queue comes in the order of its index. Of several, SQLite reads each only until it is younger than what was found.
_waiting = select(jobs.c.seq).where(_waits, _of_endpoints, unexpired)
IN_ORDER: Final = _Statements(
    # In the order of `jobs_by_place`, so that PostgreSQL takes it: to find any one job it would read the table, in
    # which waiting jobs may be few among all that have ended.
    is_waiting=_waiting.order_by(jobs.c.endpoint_id, jobs.c.status, *_claim_order).limit(1),
    claim=_claim(_waiting),
    first=_known(_waiting),
    pressing=_known(select(jobs.c.seq).where(is_pressing, _of_endpoints, unexpired)),
)

# For a database that reads several queues to their ends, to sort them: the front of each is asked for by itself.
_served = (
    func.unnest(bindparam("endpoints", type_=ARRAY(Text)))
    .table_valued(column("id", Text))
    .render_derived(name="served")
)


def oldest(
    columns: Collection[Column[Any]], length: ColumnElement[Any] | int, waits: ColumnElement[Any] = _waits
) -> Select[Any]:
    """These columns of the oldest that wait on any of the `endpoints`, so many of them."""
    of_one = select(*dict.fromkeys((*columns, *_claim_order)))
    of_one = of_one.where(waits, jobs.c.endpoint_id == _served.c.id, unexpired)
    front = of_one.order_by(*_claim_order).limit(length).lateral("front")
    fronts = select(*(front.c[known.name] for known in columns)).select_from(_served.join(front, true()))
    return fronts.order_by(front.c.created_ms, front.c.seq).limit(length)


SIDE_BY_SIDE: Final = _Statements(
    is_waiting=oldest([jobs.c.seq], 1),
    claim=_claim(select(jobs.c.seq).where(_waits, jobs.c.seq.in_(oldest([jobs.c.seq], _max_jobs + _MORE)), unexpired)),
    first=oldest(_KNOWN, _max_jobs),
    pressing=oldest(_KNOWN, _max_jobs, is_pressing),
)
