"""The statements about webhooks; see `statements.py` for the rules."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    text,
    update,
)

from flux_endpoint.core.webhook import DeliveryState
from flux_endpoint.stores.schema import api_keys, jobs, webhook_deliveries, webhook_secrets

_row = webhook_deliveries.c
_now_ms = bindparam("now_ms", type_=BigInteger)
_until_ms = bindparam("until_ms", type_=BigInteger)
_this: ColumnElement[Any] = _row.id == bindparam("delivery")
_given_up: ColumnElement[Any] = _row.state.in_([DeliveryState.FAILED.value, DeliveryState.REFUSED.value])
_open: ColumnElement[Any] = and_(_row.due_ms.is_not(None), _row.origin.not_in(bindparam("busy", expanding=True)))

# In the same transaction as the end of the job.
ADD: Final = insert(webhook_deliveries).inline()

# WAITING stays WAITING, in the hands of one gateway. As for jobs, each claimer skips what another one has locked.
_due = (
    select(_row.seq)
    .where(_open, _row.due_ms <= _now_ms)
    .order_by(_row.due_ms, _row.seq)
    .limit(bindparam("max_deliveries", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("due")
)
CLAIM: Final = (
    update(webhook_deliveries)
    .where(_row.seq.in_(select(_due.c.seq)))
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
    .returning(_row.job_id)
)

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
