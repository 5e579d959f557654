"""Idempotency-Keys: the same name gets the same job, also when its result is gone."""

import hashlib
from typing import Any, Final

from sqlalchemy import BigInteger, and_, bindparam, delete, exists, insert, or_, select

from flux_endpoint.core.errors import Conflict, ResultErased
from flux_endpoint.core.job import IDEMPOTENCY_KEY_LIFE_MS, IdempotencyKey, Job
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.sql.database import Connection
from flux_endpoint.stores.sql.schema import idempotency_keys, jobs

_this = and_(
    idempotency_keys.c.key_id == bindparam("key"),
    idempotency_keys.c.endpoint_id == bindparam("endpoint"),
    idempotency_keys.c.name_hash == bindparam("hashed"),
)
_FIND: Final = select(idempotency_keys).where(_this)
_is_old = idempotency_keys.c.created_ms <= bindparam("old_ms", type_=BigInteger)
# Only an old one: another gateway may have taken the name a moment ago.
_FREE: Final = delete(idempotency_keys).where(_this, _is_old)
_ADD: Final = insert(idempotency_keys).inline()
_now_ms = bindparam("now_ms", type_=BigInteger)
_readable = exists().where(
    jobs.c.id == idempotency_keys.c.job_id, or_(jobs.c.expires_ms.is_(None), jobs.c.expires_ms > _now_ms)
)
_FORGET: Final = delete(idempotency_keys).where(_is_old, ~_readable)


def sent_before(connection: Connection, key_id: str, endpoint_id: str, key: IdempotencyKey, now_ms: int) -> Job | None:
    """The job that was submitted under a name; None when the name is free.

    Raises:
        Conflict: the name came with another request.
        ResultErased: the job can no longer be read.
    """
    row = connection.execute(_FIND, _reference(key_id, endpoint_id, key)).first
    if row is None:
        return None
    job_row = connection.execute(sql.GET_JOB_BY_ID, {"job": row.job_id}).first
    job = None if job_row is None else to_job(job_row)
    is_readable = job is not None and job.is_readable(now_ms)
    if not is_readable and row.created_ms <= now_ms - IDEMPOTENCY_KEY_LIFE_MS:
        return None
    if row.request_hash != key.request_hash:
        raise Conflict(f"the Idempotency-Key '{key.name}' was used with another request body; choose a new one")
    if not is_readable:
        raise ResultErased(key.name, row.job_id, None if job is None else job.status.value)
    return job


def remember(connection: Connection, job: Job, key: IdempotencyKey) -> None:
    """Note under which name a new job was submitted; call it when `sent_before` has found the name free."""
    reference = _reference(job.key_id, job.endpoint_id, key)
    connection.execute(_FREE, reference | {"old_ms": job.created_ms - IDEMPOTENCY_KEY_LIFE_MS})
    values = {
        "key_id": reference["key"],
        "endpoint_id": reference["endpoint"],
        "name_hash": reference["hashed"],
        "request_hash": key.request_hash,
        "job_id": job.id,
        "created_ms": job.created_ms,
    }
    connection.execute(_ADD, values)


def forget_free_keys(connection: Connection, now_ms: int) -> None:
    """Delete the keys that are free again."""
    connection.execute(_FORGET, {"now_ms": now_ms, "old_ms": now_ms - IDEMPOTENCY_KEY_LIFE_MS})


def _reference(key_id: str, endpoint_id: str, key: IdempotencyKey) -> dict[str, Any]:
    # Only a hash outlives the job: the name is the client's, and what is the client's is erased with the job.
    name_hash = hashlib.sha256(key.name.encode("utf-8", "replace")).hexdigest()
    return {"key": key_id, "endpoint": endpoint_id, "hashed": name_hash}
