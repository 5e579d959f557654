"""Counts of requests in PostgreSQL, in a table that is never written to its log."""

from typing import Final

from sqlalchemy import BigInteger, Integer, Text, bindparam, delete, func, insert, select

from flux_endpoint.core.clock import Clock
from flux_endpoint.stores.rates.protocol import Admissions, Exchange
from flux_endpoint.stores.sql.database import Database, Transaction
from flux_endpoint.stores.sql.schema import admissions

_counter: Final = bindparam("of", type_=Text)
# Held until the commit: two gateways must not both take the last place.
_LOCK: Final = select(func.pg_advisory_xact_lock(func.hashtextextended(_counter, 0)))
_since_ms: Final = bindparam("since_ms", type_=BigInteger)
_OLD: Final = delete(admissions).where(admissions.c.counter == _counter, admissions.c.at_ms <= _since_ms)
# What comes from the future was written before the clock was set back.
_ELSEWHERE: Final = select(admissions.c.at_ms, admissions.c.requests).where(
    admissions.c.counter == _counter,
    admissions.c.at_ms > _since_ms,
    admissions.c.at_ms <= bindparam("until_ms", type_=BigInteger),
    admissions.c.gateway != bindparam("me", type_=Text),
)
_TELL: Final = insert(admissions).values(
    counter=_counter,
    gateway=bindparam("me", type_=Text),
    at_ms=bindparam("now_ms", type_=BigInteger),
    requests=bindparam("told", type_=Integer),
)
# How far the clocks of two gateways may be apart, which both follow PostgreSQL's.
_SLACK_MS: Final = 1_000


class SqlRates:
    """Implements `RateStore`, on PostgreSQL only: a SQLite file has one gateway."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def exchange(
        self, counter: str, gateway: str, *, here: int, untold: int, limit: int, window_ms: int
    ) -> Exchange:
        """See `RateStore.exchange`."""

        def exchange(transaction: Transaction) -> Exchange:
            connection = transaction.connection
            connection.execute(_LOCK, {"of": counter})
            # Read behind the lock, so that nobody's later is seen before it.
            now_ms = self._clock.now_ms()
            window = {"of": counter, "since_ms": now_ms - window_ms}
            connection.execute(_OLD, window)
            rows = connection.execute(_ELSEWHERE, window | {"until_ms": now_ms + _SLACK_MS, "me": gateway})
            elsewhere = [Admissions(max(0, now_ms - row.at_ms), row.requests) for row in rows]
            has_room = here + sum(each.requests for each in elsewhere) < limit
            told = untold + has_room
            if told:
                connection.execute(_TELL, {"of": counter, "me": gateway, "now_ms": now_ms, "told": told})
            return Exchange(has_room, elsewhere)

        return await self._database.write(exchange)
