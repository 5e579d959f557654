"""One time for all gateways on a database: PostgreSQL's own clock, or the machine's beside a SQLite file."""

import logging
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import BigInteger, bindparam, cast, extract, func, or_, select, update

from flux_endpoint.core.batch import BatchStatus
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.stores.jobs.statements import locked
from flux_endpoint.stores.sql.database import Connection, Database, Row
from flux_endpoint.stores.sql.schema import batches, jobs, timekeeping, workers
from flux_endpoint.stores.sql.webhook_schema import webhook_deliveries, webhook_secrets

logger = logging.getLogger(__name__)

# Clocks that are kept by NTP slip by a millisecond in some seconds; what is set by less than this is followed silently.
_JUMP_MS: Final = 1_000

# The time itself, not that of the transaction's begin.
_NOW: Final = select(cast(extract("epoch", func.clock_timestamp()) * 1_000, BigInteger))
_READ: Final = select(timekeeping)
_LOCK: Final = select(timekeeping).with_for_update()
_by_ms = bindparam("by_ms", type_=BigInteger)
_NOTE: Final = update(timekeeping).values(
    read_ms=bindparam("now_ms", type_=BigInteger), moved_ms=timekeeping.c.moved_ms + _by_ms
)

# All times of a job together, so that its waits and runs stay as long as they were. Nothing waits for a time of one
# that has ended and is erased, or is kept for ever; nor for those of money, which stay where they were booked.
_living = locked(or_(jobs.c.finished_ms.is_(None), jobs.c.expires_ms > 0), "living")
_MOVE: Final = (
    update(jobs)
    .where(jobs.c.seq.in_(select(_living.c.seq)))
    .values(
        created_ms=jobs.c.created_ms + _by_ms,
        queued_ms=jobs.c.queued_ms + _by_ms,
        started_ms=jobs.c.started_ms + _by_ms,
        finished_ms=jobs.c.finished_ms + _by_ms,
        lease_expires_ms=jobs.c.lease_expires_ms + _by_ms,
        expires_ms=jobs.c.expires_ms + _by_ms,
    ),
    update(webhook_deliveries)
    .where(webhook_deliveries.c.due_ms.is_not(None))
    .values(due_ms=webhook_deliveries.c.due_ms + _by_ms),
    update(webhook_secrets).values(previous_until_ms=webhook_secrets.c.previous_until_ms + _by_ms),
    update(workers).values(since_ms=workers.c.since_ms + _by_ms, seen_ms=workers.c.seen_ms + _by_ms),
    update(batches).where(batches.c.status == BatchStatus.DRAFT.value).values(created_ms=batches.c.created_ms + _by_ms),
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was seen at once.

    Attributes:
        now_ms: the shared clock.
        at_ms: `monotonic_ms` of this process, in the middle of the question.
        unsure_ms: how long the question took.
        moved_ms: how far the shared clock was set until then, as the gateways know.
    """

    now_ms: int
    at_ms: int
    unsure_ms: int
    moved_ms: int


class SqlTimekeeper:
    """Implements `Timekeeper`.

    A jump is a difference between how far the shared clock has come and how much time has passed here. It is real only
    if the gateway that read the clock last saw the same: a machine that was paused has a clock of its own that stood
    still, and must not move everybody's times. And it is acted upon once: the table holds the sum of all jumps, so that
    each gateway knows which part of what it sees the others have dealt with.

    Args:
        database: whose clock is shared; a SQLite file has none, and one gateway, whose machine's clock is taken.
        clock: is set.
    """

    def __init__(self, database: Database, clock: SystemClock) -> None:
        self._database = database
        self._clock = clock
        self._last: _Reading | None = None

    async def keep(self) -> int:
        """See `Timekeeper.keep`."""
        last = self._last
        if last is None:
            # Not noted down: who has just come cannot tell whether the clock was set since the last reading.
            reading = await self._database.read(
                lambda connection: self._read(connection, connection.execute(_READ).first)
            )
        else:
            reading = await self._database.write(
                lambda transaction: self._compare(transaction.connection, last), is_long=True
            )
        self._last = reading
        self._clock.set(reading.now_ms, reading.at_ms)
        return 0 if last is None else reading.moved_ms - last.moved_ms

    def _read(self, connection: Connection, row: Row = None) -> _Reading:
        row = row or connection.execute(_READ).first
        before_ms = self._clock.monotonic_ms()
        is_shared = connection.dialect.name == "postgresql"
        now_ms = connection.scalar(_NOW) if is_shared else self._clock.wall_ms()
        taken_ms = self._clock.monotonic_ms() - before_ms
        return _Reading(int(now_ms or 0), before_ms + taken_ms // 2, taken_ms, row.moved_ms)

    def _compare(self, connection: Connection, last: _Reading) -> _Reading:
        row = connection.execute(_LOCK).first
        reading = self._read(connection, row)
        passed_ms = reading.at_ms - last.at_ms
        # Whoever noted a reading last did so at some time since this gateway did.
        slack_ms = _JUMP_MS + reading.unsure_ms
        has_run_evenly = -slack_ms <= reading.now_ms - row.read_ms <= passed_ms + slack_ms
        jump_ms = reading.now_ms - last.now_ms - passed_ms - (reading.moved_ms - last.moved_ms)
        if has_run_evenly or abs(jump_ms) <= slack_ms:
            jump_ms = 0
        else:
            logger.warning(
                "the clock was set by %+.1f s; leases and times to live move along, and none ends for now",
                jump_ms / 1_000,
            )
            for statement in _MOVE:
                connection.execute(statement, {"by_ms": jump_ms})
        connection.execute(_NOTE, {"now_ms": reading.now_ms, "by_ms": jump_ms})
        return replace(reading, moved_ms=reading.moved_ms + jump_ms)
