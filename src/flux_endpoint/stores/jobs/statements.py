"""Every statement the store sends, by name: one per transition of a job. One text serves SQLite and PostgreSQL.

Trap: a bound parameter must not have the name of a column it is compared or assigned to.
"""

from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from flux_endpoint.core.job import ALLOWED_MOVES, DEFAULT_TTL_MS, JobStatus
from flux_endpoint.stores.sql.schema import api_keys, is_leased, jobs

_job: ColumnElement[Any] = jobs.c.id == bindparam("job")
_of_endpoint: ColumnElement[Any] = jobs.c.endpoint_id == bindparam("endpoint")
_of_endpoints: ColumnElement[Any] = jobs.c.endpoint_id.in_(bindparam("endpoints", expanding=True))
_of_worker: ColumnElement[Any] = jobs.c.worker_id == bindparam("worker")
_running: ColumnElement[Any] = jobs.c.status == JobStatus.IN_PROGRESS.value
_untold: ColumnElement[Any] = and_(jobs.c.status.in_([JobStatus.CANCELLED.value, JobStatus.TIMED_OUT.value]), is_leased)
# Typed, because PostgreSQL asks the type of every parameter before it sees a value.
_now_ms = bindparam("now_ms", type_=BigInteger)
_expires_ms = bindparam("until_ms", type_=BigInteger)
_retry = bindparam("retry", type_=Integer)
_ended: ColumnElement[Any] = jobs.c.finished_ms.is_not(None)
unexpired: ColumnElement[Any] = or_(jobs.c.expires_ms.is_(None), jobs.c.expires_ms > _now_ms)

# When a job that ends now can no longer be read: after the server's retention or the client's time to live, whichever
# is shorter.
_ttl_end = jobs.c.created_ms + jobs.c.ttl_ms
_retention_end = _now_ms + jobs.c.retention_ms
_kept_until: ColumnElement[Any] = case(
    (and_(jobs.c.retention_ms.is_(None), jobs.c.ttl_ms.is_(None)), cast(null(), BigInteger)),
    (jobs.c.retention_ms.is_(None), _ttl_end),
    (or_(jobs.c.ttl_ms.is_(None), _retention_end < _ttl_end), _retention_end),
    else_=_ttl_end,
)


def may_become(status: JobStatus) -> ColumnElement[Any]:
    """The guard of a transition: rows in a state from which the move is allowed."""
    sources = [source.value for source, targets in ALLOWED_MOVES.items() if status in targets]
    return or_(*(jobs.c.status == source for source in sources))


def locked(condition: ColumnElement[Any], name: str) -> CTE:
    """Sequence numbers of the rows to change, locked in one fixed order, so that two of us never deadlock.

    The order begins with the worker because SQLite, asked for `seq` alone, reads the whole table in that order instead
    of the few rows of the index `jobs_leased`.
    """
    order = (jobs.c.worker_id, jobs.c.seq)
    return select(jobs.c.seq).where(condition).order_by(*order).with_for_update().cte(name)


GET_JOB: Final = select(jobs).where(_job, _of_endpoint, unexpired)
GET_JOB_ON: Final = select(jobs).where(_job, _of_endpoints, unexpired)
GET_JOB_BY_ID: Final = select(jobs).where(_job)
IS_STOP_WAITING: Final = select(exists().where(_of_worker, _untold))


_OF_OLD: Final = frozenset((jobs.c.seq, jobs.c.lease_expires_ms))  # not known of a new job

# (new) -> IN_QUEUE | FAILED
ENQUEUE: Final = insert(jobs).inline()
# The same, unless its key has a budget to be looked at.
_new = {column.name: bindparam(column.name, type_=column.type) for column in jobs.c if column not in _OF_OLD}
_limited = exists().where(api_keys.c.id == _new["key_id"], api_keys.c.units_per_month.is_not(None))
ENQUEUE_UNLIMITED: Final = insert(jobs).from_select(list(_new), select(*_new.values()).where(~_limited)).inline()

# IN_PROGRESS stays IN_PROGRESS, for longer.
_held = locked(and_(_running, _of_worker, jobs.c.id.in_(bindparam("job_ids", expanding=True))), "held")
RENEW: Final = (
    update(jobs).where(jobs.c.seq.in_(select(_held.c.seq))).values(lease_expires_ms=_expires_ms).returning(jobs.c.id)
)

# A report counts only from the worker that holds the job; with a token, only from its latest claim.
held_by_reporter = and_(
    _job,
    _of_worker,
    _running,
    jobs.c.claim_token == func.coalesce(bindparam("token", type_=BigInteger), jobs.c.claim_token),
)

# IN_PROGRESS stays IN_PROGRESS, with news.
SET_PROGRESS: Final = update(jobs).where(held_by_reporter).values(progress=bindparam("news"))

# IN_PROGRESS stays IN_PROGRESS, in other hands.
HAND_OVER: Final = (
    update(jobs)
    .where(held_by_reporter)
    .values(
        worker_id=bindparam("holder"),
        drawn_by=jobs.c.worker_id,
        lease_expires_ms=_expires_ms,
    )
    .returning(jobs)
)

# IN_PROGRESS -> COMPLETED. Not once its time is over: a result that nobody can read would be charged.
COMPLETE: Final = (
    update(jobs)
    .where(held_by_reporter, unexpired)
    .values(
        status=JobStatus.COMPLETED.value,
        output=bindparam("result"),
        finished_ms=_now_ms,
        expires_ms=_kept_until,
        lease_expires_ms=None,
        progress=None,
        # Holds the client's credentials, which nobody needs any more.
        bucket=None,
    )
    .returning(jobs)
)

# IN_PROGRESS -> FAILED
FAIL: Final = (
    update(jobs)
    .where(held_by_reporter)
    .values(
        status=JobStatus.FAILED.value,
        error=bindparam("reason"),
        output=bindparam("result"),
        finished_ms=_now_ms,
        expires_ms=_kept_until,
        lease_expires_ms=None,
        progress=None,
    )
    .returning(jobs)
)

# IN_PROGRESS -> IN_QUEUE, at its old place, because the worker gave it back.
GIVE_BACK: Final = (
    update(jobs)
    .where(held_by_reporter)
    .values(status=JobStatus.IN_QUEUE.value, lease_expires_ms=None, progress=None)
    .returning(jobs)
)

# IN_QUEUE | IN_PROGRESS -> CANCELLED. `lease_expires_ms` stays: the mark that a worker has yet to be told.
CANCEL: Final = (
    update(jobs)
    .where(_job, _of_endpoint, unexpired, may_become(JobStatus.CANCELLED))
    .values(status=JobStatus.CANCELLED.value, finished_ms=_now_ms, expires_ms=_kept_until, progress=None, bucket=None)
    .returning(jobs)
)

# Since the end the client may have asked for a longer life than it did at first; then that one holds.
_lives_longer = jobs.c.expires_ms > _ttl_end

# FAILED | TIMED_OUT -> IN_QUEUE, because the client asks. Not for a job refused at the door, which has nothing to run.
RETRY: Final = (
    update(jobs)
    .where(
        _job,
        _of_endpoint,
        unexpired,
        jobs.c.status.in_([JobStatus.FAILED.value, JobStatus.TIMED_OUT.value]),
        jobs.c.started_ms.is_not(None),
    )
    .values(
        status=JobStatus.IN_QUEUE.value,
        queued_ms=_now_ms,
        finished_ms=None,
        expires_ms=case((_lives_longer, jobs.c.expires_ms), else_=func.coalesce(_ttl_end, _now_ms + DEFAULT_TTL_MS)),
        ttl_ms=case((_lives_longer, jobs.c.expires_ms - jobs.c.created_ms), else_=jobs.c.ttl_ms),
        # Its worker may not have been told to stop yet; the claim token keeps it from interfering.
        lease_expires_ms=None,
        retries=0,
        output=None,
        error=None,
    )
    .returning(jobs)
)


def _purge(*whose: ColumnElement[Any]) -> ReturningUpdate[Any]:
    waiting = locked(and_(_of_endpoint, jobs.c.status == JobStatus.IN_QUEUE.value, *whose), "waiting")
    return (
        update(jobs)
        .where(jobs.c.seq.in_(select(waiting.c.seq)))
        .values(status=JobStatus.CANCELLED.value, finished_ms=_now_ms, expires_ms=_kept_until, bucket=None)
        .returning(jobs)
    )


# IN_QUEUE -> CANCELLED, all of an endpoint, or those of one key.
PURGE: Final = _purge()
PURGE_OF_KEY: Final = _purge(jobs.c.key_id == bindparam("key"))

# IN_QUEUE | IN_PROGRESS -> CANCELLED, all of a batch. `lease_expires_ms` stays, as in CANCEL.
_of_cancelled_batch = locked(
    and_(jobs.c.batch_id == bindparam("batch"), may_become(JobStatus.CANCELLED)), "of_cancelled_batch"
)
CANCEL_OF_BATCH: Final = (
    update(jobs)
    .where(jobs.c.seq.in_(select(_of_cancelled_batch.c.seq)))
    .values(status=JobStatus.CANCELLED.value, finished_ms=_now_ms, expires_ms=_kept_until, progress=None, bucket=None)
    .returning(jobs)
)

# CANCELLED and TIMED_OUT stay; the worker is told once.
TAKE_STOPS: Final = update(jobs).where(_of_worker, _untold).values(lease_expires_ms=None).returning(jobs.c.id)

# substr and not LIKE: SQLite's LIKE takes "W1" for "w1", and ids may hold its wildcards.
_of_gone_workers: ColumnElement[Any] = and_(
    is_leased,
    func.substr(jobs.c.worker_id, 1, bindparam("prefix_chars", type_=Integer)) == bindparam("prefix"),
)
_expired: ColumnElement[Any] = and_(is_leased, jobs.c.lease_expires_ms <= _now_ms)

# IN_PROGRESS -> FAILED | IN_QUEUE, because the worker is lost. `retry` is 1, or 0 when the loss is not the job's fault.
_too_often: ColumnElement[Any] = and_(_retry == 1, jobs.c.retries >= bindparam("max_retries", type_=Integer))
_timed_out_text = literal("job timed out after ", Text) + cast(jobs.c.retries, Text) + literal(" retries", Text)


def _take_back(whose: ColumnElement[Any], error: ColumnElement[Any] = _timed_out_text) -> Any:
    lost = locked(and_(_running, whose), "lost")
    return (
        update(jobs)
        .where(jobs.c.seq.in_(select(lost.c.seq)))
        .values(
            status=case((_too_often, JobStatus.FAILED.value), else_=JobStatus.IN_QUEUE.value),
            error=case((_too_often, error), else_=None),
            finished_ms=case((_too_often, _now_ms), else_=None),
            expires_ms=case((_too_often, _kept_until), else_=jobs.c.expires_ms),
            progress=None,
            retries=case((_too_often, jobs.c.retries), else_=jobs.c.retries + _retry),
            queued_ms=case((_too_often, jobs.c.queued_ms), else_=_now_ms),
            lease_expires_ms=None,
        )
        .returning(jobs)
    )


TAKE_BACK_EXPIRED: Final = _take_back(_expired)
TAKE_BACK_FROM: Final = _take_back(and_(is_leased, _of_worker))
TAKE_BACK_JOBS: Final = _take_back(
    and_(_of_worker, jobs.c.id.in_(bindparam("job_ids", expanding=True))), bindparam("reason", type_=Text)
)
TAKE_BACK_FROM_GONE: Final = _take_back(_of_gone_workers)
# A new worker of the same id must not be told to stop what the old one ran.
FORGET_STOPS_OF_GONE: Final = update(jobs).where(_untold, _of_gone_workers).values(lease_expires_ms=None)

# IN_PROGRESS -> TIMED_OUT. `lease_expires_ms` stays: the mark that the worker has yet to be told.
_runs_too_long: ColumnElement[Any] = jobs.c.started_ms + jobs.c.execution_timeout_ms <= _now_ms
_overdue = locked(and_(_running, is_leased, _runs_too_long), "overdue")
TIME_OUT_RUNNING: Final = (
    update(jobs)
    .where(jobs.c.seq.in_(select(_overdue.c.seq)))
    .values(
        status=JobStatus.TIMED_OUT.value,
        error=literal("the job ran longer than its execution timeout of ", Text)
        + cast(jobs.c.execution_timeout_ms, Text)
        + literal(" ms", Text),
        finished_ms=_now_ms,
        expires_ms=_kept_until,
        progress=None,
    )
    .returning(jobs)
)

# IN_QUEUE | IN_PROGRESS -> TIMED_OUT, and out of sight at once: its time to live is over. `expires_ms > 0` is what the
# index `jobs_by_expiry` holds.
_past: ColumnElement[Any] = and_(jobs.c.expires_ms > 0, jobs.c.expires_ms <= _now_ms)
_past_unended: ColumnElement[Any] = and_(_past, may_become(JobStatus.TIMED_OUT))
_outlived = locked(_past_unended, "outlived")
END_OUTLIVED: Final = (
    update(jobs)
    .where(jobs.c.seq.in_(select(_outlived.c.seq)))
    .values(
        status=JobStatus.TIMED_OUT.value,
        error="the job's time to live was over before it was done",
        finished_ms=_now_ms,
        progress=None,
    )
    .returning(jobs)
)

# All that the three statements of a sweep change, locked in one order before the first of them: each locks some rows,
# and whoever locks all of a worker's at once (RENEW) would meet them half way.
# Two lists in one, because each has an index of its own.
_swept = union_all(
    select(jobs.c.seq).where(_past_unended),
    select(jobs.c.seq).where(_running, is_leased, or_(_runs_too_long, jobs.c.lease_expires_ms <= _now_ms)),
)
FIND_SWEPT: Final = select(jobs.c.seq).where(jobs.c.seq.in_(_swept)).limit(1)
LOCK_SWEPT: Final = (
    select(jobs.c.seq).where(jobs.c.seq.in_(_swept)).order_by(jobs.c.worker_id, jobs.c.seq).with_for_update()
)

# A terminal job that nobody can read any more: what the client sent and got is erased; figures stay.
_faded = select(jobs.c.seq).where(_past, _ended).limit(bindparam("max_jobs", type_=Integer))
ERASE: Final = (
    update(jobs)
    .where(jobs.c.seq.in_(_faded))
    .values(input={}, output=None, webhook=None, bucket=None, progress=None, warnings=None, expires_ms=0)
    .returning(jobs.c.id)
)

# The client says for how much longer it wants to be able to read the job.
SET_TTL: Final = (
    update(jobs)
    .where(_job, _of_endpoint, unexpired)
    .values(
        expires_ms=_expires_ms,
        # Counted from the submission, as the client's own would be.
        ttl_ms=case((_ended, jobs.c.ttl_ms), else_=_expires_ms - jobs.c.created_ms),
    )
    .returning(jobs)
)

# (terminal, erased) -> (gone), the oldest first; its ledger entry stays.
_oldest_ended = (
    select(jobs.c.seq)
    .where(jobs.c.finished_ms < bindparam("before_ms", type_=BigInteger), jobs.c.expires_ms == 0)
    .order_by(jobs.c.finished_ms)
    .limit(bindparam("max_jobs", type_=Integer))
)
FORGET: Final = delete(jobs).where(jobs.c.seq.in_(_oldest_ended)).returning(jobs.c.id)

# Before a chunk is appended. Locked: otherwise a client could see the end of a job, and then a chunk from before it.
LOCK_HELD_BY_REPORTER: Final = select(jobs.c.seq, jobs.c.claim_token).where(held_by_reporter).with_for_update()
