"""The statements about workers and their tokens. Trap: see `statements.py`."""

from typing import Final

from sqlalchemy import BigInteger, Integer, TextualSelect, and_, bindparam, delete, func, insert, select, text, update

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.sql.schema import is_leased, jobs, worker_tokens, workers

_seen_at = bindparam("seen_at", type_=BigInteger)
_of_id = workers.c.id == bindparam("worker")

_token_columns = (
    worker_tokens.c.id,
    worker_tokens.c.name,
    worker_tokens.c.endpoint_ids,
    worker_tokens.c.created_ms,
    worker_tokens.c.revoked_ms,
)
ADD_TOKEN: Final = insert(worker_tokens).inline()
FIND_TOKEN: Final = select(*_token_columns).where(worker_tokens.c.secret_hash == bindparam("hash"))
LIST_TOKENS: Final = select(*_token_columns).order_by(worker_tokens.c.created_ms, worker_tokens.c.seq)
REVOKE_TOKEN: Final = (
    update(worker_tokens)
    .where(worker_tokens.c.id == bindparam("token"))
    .values(revoked_ms=func.coalesce(worker_tokens.c.revoked_ms, bindparam("now_ms", type_=BigInteger)))
)

GET_WORKER: Final = select(workers).where(_of_id)


def _note_worker(changes: str) -> TextualSelect:
    """Add a worker, or change these columns of it: one statement, because two gateways may meet a worker at once.

    Text, because SQLAlchemy spells it differently for each database; they agree.
    """
    statement = text(
        "INSERT INTO workers (id, endpoint_ids, state, reason, since_ms, seen_ms, asked_ms, fingerprint, step_us) "
        "VALUES (:id, :endpoint_ids, :state, :reason, :since_ms, :seen_ms, :asked_ms, :fingerprint, :step_us) "
        "ON CONFLICT (id) DO UPDATE SET endpoint_ids = excluded.endpoint_ids, "
        # Of two gateways that write about the same time, the later sighting stands.
        "seen_ms = CASE WHEN workers.seen_ms > excluded.seen_ms THEN workers.seen_ms ELSE excluded.seen_ms END, "
        "asked_ms = CASE WHEN workers.asked_ms > excluded.asked_ms THEN workers.asked_ms ELSE excluded.asked_ms END, "
        # Told with the first take only: a gateway that met the worker later does not know it.
        "fingerprint = coalesce(excluded.fingerprint, workers.fingerprint), "
        "step_us = coalesce(excluded.step_us, workers.step_us)"
        f"{changes} RETURNING *"
    )
    typed = [bindparam(column.name, type_=column.type) for column in workers.c]
    return statement.bindparams(*typed).columns(*workers.c)


SEE_WORKER: Final = _note_worker("")
SET_WORKER: Final = _note_worker(", state = excluded.state, reason = excluded.reason, since_ms = excluded.since_ms")
LIST_WORKERS: Final = select(workers).where(workers.c.seen_ms >= _seen_at).order_by(workers.c.id)
# The first condition is implied by the second; it lets the database use the small index of what is in flight.
COUNT_RUNNING: Final = (
    select(jobs.c.worker_id, func.count().label("jobs"))
    .where(is_leased, jobs.c.status == JobStatus.IN_PROGRESS.value)
    .group_by(jobs.c.worker_id)
)
FORGET_WORKER: Final = delete(workers).where(_of_id)
# substr and not LIKE: see `statements.py`.
FORGET_WORKERS: Final = delete(workers).where(
    and_(
        func.substr(workers.c.id, 1, bindparam("prefix_chars", type_=Integer)) == bindparam("prefix"),
        workers.c.seen_ms < _seen_at,
    )
)
