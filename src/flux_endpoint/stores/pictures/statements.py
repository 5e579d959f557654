"""The statements about pictures that workers hand in."""

from typing import Final

from sqlalchemy import BigInteger, Integer, Text, bindparam, delete, exists, select
from sqlalchemy.dialects.postgresql import insert

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.jobs.statements import held_by_reporter
from flux_endpoint.stores.sql.schema import jobs, pending_pictures

_of_claim = (
    pending_pictures.c.job_id == bindparam("job"),
    pending_pictures.c.claim_token == bindparam("claim", type_=BigInteger),
)
# Asked again, the first key stands: it is about to be saved again. Both databases understand PostgreSQL's words.
_reserved: Final = insert(pending_pictures).from_select(
    ["key", "job_id", "claim_token", "reserved_ms", "number"],
    select(
        bindparam("new_key", type_=Text),
        jobs.c.id,
        jobs.c.claim_token,
        bindparam("now_ms", type_=BigInteger),
        bindparam("number", type_=Integer),
    )
    .where(held_by_reporter)
    .with_for_update(),
)
RESERVE: Final = _reserved.on_conflict_do_update(
    index_elements=["job_id", "claim_token", "number"], set_={"reserved_ms": _reserved.excluded.reserved_ms}
).returning(pending_pictures.c.key)
# The job names it in the same transaction: nobody will take it for an orphan.
NAME: Final = delete(pending_pictures).where(*_of_claim, pending_pictures.c.key == bindparam("picture"))

# A claim token never comes again, so a claim that is over stays over.
_is_running = exists().where(
    jobs.c.id == pending_pictures.c.job_id,
    jobs.c.claim_token == pending_pictures.c.claim_token,
    jobs.c.status == JobStatus.IN_PROGRESS.value,
)
ORPHANS: Final = (
    select(pending_pictures.c.key)
    .where(pending_pictures.c.reserved_ms < bindparam("before_ms", type_=BigInteger), ~_is_running)
    .order_by(pending_pictures.c.reserved_ms)
    .limit(bindparam("max_pictures", type_=Integer))
)
FORGET: Final = delete(pending_pictures).where(pending_pictures.c.key.in_(bindparam("keys", expanding=True)))
