"""The statements about webhooks; see `statements.py` for the rules."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)

from flux_endpoint.core.webhook import DeliveryState
from flux_endpoint.stores.sql.schema import api_keys, jobs
from flux_endpoint.stores.sql.webhook_schema import webhook_deliveries, webhook_receivers, webhook_secrets

_row = webhook_deliveries.c
_now_ms = bindparam("now_ms", type_=BigInteger)
_until_ms = bindparam("until_ms", type_=BigInteger)
_this: ColumnElement[Any] = _row.id == bindparam("delivery")
_given_up: ColumnElement[Any] = _row.state.in_([DeliveryState.FAILED.value, DeliveryState.REFUSED.value])

_receiver: ColumnElement[Any] = and_(_row.key_id == bindparam("key"), _row.origin == bindparam("place"))
_failing = webhook_receivers.c
_is_on_probation: ColumnElement[Any] = exists().where(
    _failing.key_id == _row.key_id, _failing.origin == _row.origin, _failing.paused_until_ms.is_not(None)
)
# Names of receivers, as long as another one may still have something; bound from `core.shares.Shares`.
_open: ColumnElement[Any] = and_(
    _row.due_ms.is_not(None),
    _row.key_id.not_in(bindparam("full_keys", expanding=True)),
    _row.host.not_in(bindparam("full_hosts", expanding=True)),
    tuple_(_row.key_id, _row.host).not_in(bindparam("full_pairs", expanding=True)),
    tuple_(_row.key_id, _row.origin).not_in(bindparam("on_probation", expanding=True)),
)

# In the same transaction as the end of the job.
ADD: Final = insert(webhook_deliveries).inline()

# Gateways claim one after another, so that together they keep what holds for all of them. SQLite has one writer anyway.
ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(7305931142567)")

# Who holds places, on all gateways; a claim that was not reported in time holds none.
HELD: Final = (
    select(
        _row.key_id,
        _row.host,
        _row.origin,
        _is_on_probation.label("is_on_probation"),
        func.count().label("places"),
    )
    .where(_row.gateway.is_not(None), _row.due_ms > _now_ms)
    .group_by(_row.key_id, _row.host, _row.origin)
)
CANDIDATES: Final[Select[Any]] = (
    select(_row.seq, _row.key_id, _row.host, _row.origin, _is_on_probation.label("is_on_probation"))
    .where(_open, _row.due_ms <= _now_ms)
    .order_by(_row.due_ms, _row.seq)
    .limit(bindparam("max_deliveries", type_=Integer))
)
# WAITING stays WAITING, in the hands of one gateway. Asked once more whether it is due: a late report may have come.
CLAIM: Final = (
    update(webhook_deliveries)
    .where(_row.seq.in_(bindparam("seqs", expanding=True)), _row.due_ms <= _now_ms)
    .values(claim_token=_row.claim_token + 1, due_ms=_until_ms, gateway=bindparam("holder"))
    .returning(webhook_deliveries)
)
NEXT_DUE: Final = select(_row.due_ms).where(_open).order_by(_row.due_ms, _row.seq).limit(1)
RELEASE: Final = (
    update(webhook_deliveries)
    .where(_row.due_ms.is_not(None), _row.gateway == bindparam("holder"))
    .values(due_ms=_now_ms, gateway=None)
)

# WAITING -> DELIVERED | FAILED | REFUSED | WAITING (another try)
REPORT: Final = (
    update(webhook_deliveries)
    .where(_this, _row.claim_token == bindparam("token", type_=BigInteger), _row.due_ms.is_not(None))
    .values(
        state=bindparam("new_state"),
        due_ms=_until_ms,
        ended_ms=bindparam("end_ms", type_=BigInteger),
        attempts=_row.attempts + 1,
        gateway=None,
        code=bindparam("new_code", type_=Integer),
        error=bindparam("problem"),
    )
    .returning(_row.job_id, _row.key_id, _row.origin)
)

# Receivers that fail. What waits for one is moved behind its pause; what is on its way is not touched.
_waiting: ColumnElement[Any] = and_(_receiver, _row.due_ms.is_not(None), _row.gateway.is_(None))
_this_receiver: ColumnElement[Any] = and_(_failing.key_id == bindparam("key"), _failing.origin == bindparam("place"))
ADD_RECEIVER: Final = text(
    "INSERT INTO webhook_receivers (key_id, origin, failures, since_ms, seen_ms) "
    "VALUES (:key, :place, 0, :now_ms, :now_ms) ON CONFLICT (key_id, origin) DO NOTHING"
)
GET_RECEIVER: Final = select(webhook_receivers).where(_this_receiver)
LOCK_RECEIVER: Final = GET_RECEIVER.with_for_update()
NOTE_FAILURE: Final = (
    update(webhook_receivers)
    .where(_this_receiver)
    .values(
        failures=bindparam("new_failures", type_=Integer),
        seen_ms=_now_ms,
        paused_until_ms=_until_ms,
        error=bindparam("problem"),
    )
)
FORGIVE: Final = delete(webhook_receivers).where(_this_receiver).returning(_failing.paused_until_ms)
POSTPONE: Final = update(webhook_deliveries).where(_waiting, _row.due_ms < _until_ms).values(due_ms=_until_ms)
RESUME: Final = update(webhook_deliveries).where(_waiting, _row.due_ms > _now_ms).values(due_ms=_now_ms)
GIVE_UP: Final = (
    update(webhook_deliveries)
    .where(_waiting)
    .values(state=DeliveryState.FAILED.value, due_ms=None, ended_ms=_now_ms, error=bindparam("problem"))
)
FORGET_RECEIVERS: Final = delete(webhook_receivers).where(
    _failing.seen_ms < bindparam("before_ms", type_=BigInteger),
    ~exists().where(_row.key_id == _failing.key_id, _row.origin == _failing.origin, _row.due_ms.is_not(None)),
)
_count_waiting = (
    select(func.count())
    .where(_row.key_id == _failing.key_id, _row.origin == _failing.origin, _row.due_ms.is_not(None))
    .scalar_subquery()
)
PAUSED: Final = (
    select(
        *(_failing[name] for name in ("key_id", "origin", "failures", "since_ms", "paused_until_ms", "error")),
        func.coalesce(api_keys.c.name, "").label("key_name"),
        _count_waiting.label("waiting"),
    )
    .outerjoin(api_keys, api_keys.c.id == _failing.key_id)
    .where(_failing.paused_until_ms.is_not(None))
    .order_by(_failing.since_ms, _failing.key_id, _failing.origin)
    .limit(bindparam("max_receivers", type_=Integer))
)
PAUSED_OF_KEY: Final = PAUSED.where(_failing.key_id == bindparam("key"))

# DELIVERED | FAILED | REFUSED -> WAITING, because the operator asks.
_replay = {"state": DeliveryState.WAITING.value, "due_ms": _now_ms, "ended_ms": None, "attempts": 0}
_replayable = and_(_row.due_ms.is_(None), _row.job.is_not(None))
REPLAY: Final = update(webhook_deliveries).where(_this, _replayable).values(_replay)
REPLAY_FAILED: Final = update(webhook_deliveries).where(_given_up, _replayable).values(_replay)

# What was sent is erased together with its job; what did not arrive is kept, so that it can be sent again.
_delivered: ColumnElement[Any] = _row.state == DeliveryState.DELIVERED.value
ERASE_DELIVERED: Final = (
    update(webhook_deliveries)
    .where(_row.job_id.in_(bindparam("job_ids", expanding=True)), _delivered)
    .values(job=None, url=None)
)
IS_JOB_READABLE: Final = select(
    exists().where(jobs.c.id == bindparam("job"), or_(jobs.c.expires_ms.is_(None), jobs.c.expires_ms > _now_ms))
)

_oldest_over = (
    select(_row.seq)
    .where(_row.ended_ms < bindparam("before_ms", type_=BigInteger))
    .order_by(_row.ended_ms)
    .limit(bindparam("max_deliveries", type_=Integer))
)
FORGET: Final = delete(webhook_deliveries).where(_row.seq.in_(_oldest_over))

_log = (
    select(
        _row.id,
        _row.job_id,
        _row.status,
        _row.shown_url,
        _row.created_ms,
        _row.state,
        _row.attempts,
        _row.code,
        _row.error,
        _row.job.is_not(None).label("can_replay"),
    )
    .order_by(_row.seq.desc())
    .limit(bindparam("max_deliveries", type_=Integer))
)
LOG: Final = _log
LOG_OF_JOB: Final = _log.where(_row.job_id == bindparam("job"))
LOG_FAILED: Final = _log.where(_given_up)
LOG_FAILED_OF_JOB: Final = LOG_OF_JOB.where(_given_up)
GET: Final = select(_row.state, _row.job.is_not(None).label("can_replay")).where(_this)

# Plain text, because SQLAlchemy spells ON CONFLICT once for each database.
ADD_SECRET: Final = text(
    "INSERT INTO webhook_secrets (key_id, secret) VALUES (:key, :drawn) ON CONFLICT (key_id) DO NOTHING"
)
GET_SECRETS: Final = select(webhook_secrets).where(webhook_secrets.c.key_id.in_(bindparam("keys", expanding=True)))
ROTATE_SECRET: Final = (
    update(webhook_secrets)
    .where(webhook_secrets.c.key_id == bindparam("key"))
    .values(previous=webhook_secrets.c.secret, previous_until_ms=_until_ms, secret=bindparam("drawn"))
)
HAS_KEY: Final = select(exists().where(api_keys.c.id == bindparam("key")))
