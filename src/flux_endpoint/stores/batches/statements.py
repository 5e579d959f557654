"""Every statement about batches. The jobs of a batch are changed by those in `statements.py`, as all jobs are."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Integer,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from flux_endpoint.core.batch import BATCH_TTL_MS, BatchStatus
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.sql.schema import batch_requests, batches, jobs

_now_ms = bindparam("now_ms", type_=BigInteger)
_this = (batches.c.id == bindparam("batch"), batches.c.endpoint_id == bindparam("endpoint"))
_of_batch = batch_requests.c.batch_id == bindparam("batch")
_of_batches: BindParameter[Any] = bindparam("batches", expanding=True)

GET_BATCH: Final = select(batches).where(*_this)
# Whoever changes a batch holds its row, so that nothing is added to a batch while it is being finalized.
LOCK_BATCH: Final = GET_BATCH.with_for_update()
ADD_BATCH: Final = insert(batches).inline()
_row = batches.c.seq == bindparam("row")
SET_STATUS: Final = update(batches).where(_row).values(status=bindparam("new_status"))
CHANGE: Final = {name: update(batches).where(_row).values({name: bindparam("text")}) for name in ("name", "webhook")}
_of_endpoint: ColumnElement[Any] = batches.c.endpoint_id == bindparam("endpoint")
_of_key: ColumnElement[Any] = batches.c.key_id == bindparam("key")
LIST_BATCHES: Final = (
    select(batches)
    .where(_of_endpoint)
    .order_by(batches.c.created_ms.desc(), batches.c.seq.desc())
    .offset(bindparam("skip", type_=Integer))
    .limit(bindparam("max_rows", type_=Integer))
)
LIST_BATCHES_OF_KEY: Final = LIST_BATCHES.where(_of_key)
COUNT_BATCHES: Final = select(func.count()).select_from(batches).where(_of_endpoint)
COUNT_BATCHES_OF_KEY: Final = COUNT_BATCHES.where(_of_key)

_has_unfinished_jobs = exists().where(
    jobs.c.batch_id == batches.c.id, jobs.c.status.in_([JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value])
)
COUNT_ACTIVE_OF_KEY: Final = COUNT_BATCHES_OF_KEY.where(
    or_(
        batches.c.status == BatchStatus.DRAFT.value,
        (batches.c.status == BatchStatus.FINALIZED.value) & _has_unfinished_jobs,
    )
)

ADD_REQUESTS: Final = insert(batch_requests).inline()
REMOVE_REQUEST: Final = delete(batch_requests).where(_of_batch, batch_requests.c.id == bindparam("request"))
DROP_REQUESTS: Final = delete(batch_requests).where(_of_batch)
SUM_REQUESTS: Final = select(
    func.count().label("requests"), func.coalesce(func.sum(batch_requests.c.cost_units), 0).label("cost_units")
).where(_of_batch)
LIST_REQUESTS: Final = (
    select(batch_requests.c.id)
    .where(_of_batch)
    .order_by(batch_requests.c.seq)
    .offset(bindparam("skip", type_=Integer))
    .limit(bindparam("max_rows", type_=Integer))
)
COUNT_REQUESTS: Final = (
    select(batch_requests.c.batch_id, func.count().label("requests"))
    .where(batch_requests.c.batch_id.in_(_of_batches))
    .group_by(batch_requests.c.batch_id)
)

COUNT_JOBS: Final = (
    select(jobs.c.batch_id, jobs.c.status, func.count().label("requests"))
    .where(jobs.c.batch_id.in_(_of_batches))
    .group_by(jobs.c.batch_id, jobs.c.status)
)
_failures_first = case((jobs.c.status.in_([JobStatus.FAILED.value, JobStatus.TIMED_OUT.value]), 0), else_=1)
LIST_JOBS: Final = (
    select(jobs)
    .where(jobs.c.batch_id == bindparam("batch"))
    .order_by(_failures_first, jobs.c.seq)
    .offset(bindparam("skip", type_=Integer))
    .limit(bindparam("max_rows", type_=Integer))
)

_waiting = (
    select(jobs.c.seq)
    .where(jobs.c.endpoint_id == bindparam("endpoint"), jobs.c.status == JobStatus.IN_QUEUE.value)
    .limit(bindparam("max_jobs", type_=Integer))
    .subquery()
)
COUNT_WAITING: Final = select(func.count()).select_from(_waiting)

# (request of a draft) -> IN_QUEUE, in the order they were added.
_job_of_request = {
    "id": batch_requests.c.id,
    "endpoint_id": bindparam("endpoint", type_=Text),
    "status": literal(JobStatus.IN_QUEUE.value, Text),
    "input": batch_requests.c.input,
    "key_id": bindparam("key", type_=Text),
    "cost_units": batch_requests.c.cost_units,
    "created_ms": _now_ms,
    "queued_ms": _now_ms,
    "claim_token": literal(0, BigInteger),
    "retries": literal(0, Integer),
    "execution_timeout_ms": batch_requests.c.execution_timeout_ms,
    "ttl_ms": batch_requests.c.ttl_ms,
    "low_priority": batch_requests.c.low_priority,
    "webhook": func.coalesce(batch_requests.c.webhook, bindparam("hook", type_=Text)),
    "bucket": batch_requests.c.bucket,
    "retention_ms": bindparam("kept_ms", type_=BigInteger),
    "expires_ms": _now_ms + func.coalesce(batch_requests.c.ttl_ms, BATCH_TTL_MS),
    "batch_id": batch_requests.c.batch_id,
    "origin": bindparam("asked_at", type_=Text),
    "dialect": bindparam("spoken", type_=Text),
    "warnings": batch_requests.c.warnings,
}
QUEUE_REQUESTS: Final = (
    insert(jobs)
    .from_select(
        list(_job_of_request),
        select(*(value.label(name) for name, value in _job_of_request.items()))
        .where(_of_batch)
        .order_by(batch_requests.c.seq),
        include_defaults=False,
    )
    .inline()
)

# DRAFT -> FAILED: forgotten by its client, with all its requests.
_stale = (batches.c.status == BatchStatus.DRAFT.value, batches.c.created_ms < bindparam("stale_ms", type_=BigInteger))
DROP_STALE_REQUESTS: Final = delete(batch_requests).where(
    batch_requests.c.batch_id.in_(select(batches.c.id).where(*_stale))
)
FAIL_STALE: Final = update(batches).where(*_stale).values(status=BatchStatus.FAILED.value, webhook=null())
# (ended, its jobs forgotten) -> (gone)
FORGET_BATCHES: Final = delete(batches).where(
    batches.c.created_ms < bindparam("before_ms", type_=BigInteger),
    batches.c.status != BatchStatus.DRAFT.value,
    ~exists().where(jobs.c.batch_id == batches.c.id),
)
