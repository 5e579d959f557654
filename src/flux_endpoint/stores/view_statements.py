"""Questions about many jobs at once. One text serves SQLite and PostgreSQL."""

from typing import Final

from sqlalchemy import BigInteger, Integer, and_, bindparam, func, not_, select

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.schema import jobs

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
