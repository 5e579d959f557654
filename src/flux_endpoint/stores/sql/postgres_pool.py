"""The connections to one PostgreSQL server, lent to one piece of work each."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.util import greenlet_spawn

from flux_endpoint.stores.sql.compiled import CompiledTexts
from flux_endpoint.stores.sql.postgres_connection import PostgresConnection

T = TypeVar("T")

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED;"
# The connection is of no use any more, whether it is seen to be closed yet or not.
_GONE: Final = (
    OSError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)
# What the driver raises of a connection that is no more.
_BROKEN: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Lost(Exception):
    """The connection was dead before it heard an answer: nothing was committed, unless the work is bare."""


class Call:
    """One piece of work, from the wait for a connection on.

    Attributes:
        connection: None while it is waited for.
    """

    def __init__(self) -> None:
        self.connection: PostgresConnection | None = None


class PostgresPool:
    """The driver's pool: connections are opened as they are needed, and kept.

    Args:
        connect: opens one of the driver's.
        size: so many at most. Also as the attribute.
        is_pooled: see `PostgresDatabase`; then all work is a transaction. Also as the attribute.
    """

    def __init__(self, connect: Callable[..., Awaitable[Any]], size: int, *, is_pooled: bool) -> None:
        self.size = size
        self.is_pooled = is_pooled
        self._texts = CompiledTexts(asyncpg_dialect())  # type: ignore[no-untyped-call]
        self._pool = asyncpg.create_pool(
            # It also hands on the address that it was not given.
            connect=lambda _address, **options: connect(**options),
            # Nothing outlives its transaction here, and to say so at each return would be a trip.
            reset=_nothing,
            min_size=0,
            max_size=size,
            max_queries=math.inf,
            max_inactive_connection_lifetime=0,
        )

    async def open(self) -> None:
        """To be awaited first; it opens no connection yet."""
        await self._pool

    async def run(self, work: Callable[[PostgresConnection], T], call: Call, *, is_bare: bool) -> T:
        """The result of work on one connection.

        Args:
            work: called with it. What it raises, this raises too.
            call: told of the connection.
            is_bare: without a transaction around it: each of its statements is one.

        Raises:
            Lost: see there.
        """
        raw = await self._pool.acquire()
        connection = call.connection = PostgresConnection(raw, self._texts)
        try:
            if is_bare and not self.is_pooled:
                return await greenlet_spawn(work, connection)
            await raw.execute(_BEGIN)
            result = await greenlet_spawn(work, connection)
            await raw.execute("COMMIT;")
            return result
        except Exception as error:
            # First: a server that says goodbye has not closed the connection yet.
            await self._recover(connection, error)
            if connection.heard_s is None and connection.is_closed:
                raise Lost(str(error) or type(error).__name__) from error
            raise
        except BaseException:
            # Whoever gives up does so because the server is silent: it would not hear of it.
            connection.end()
            raise
        finally:
            with suppress(*_BROKEN):
                await self._pool.release(raw)

    async def _recover(self, connection: PostgresConnection, error: Exception) -> None:
        """Make a connection whose work has failed fit for other work; else end it."""
        if isinstance(error, _GONE):
            connection.end()
        elif not connection.is_closed and connection.raw.is_in_transaction():
            with suppress(*_BROKEN):
                await connection.raw.execute("ROLLBACK;")

    async def close(self) -> None:
        """Take leave of the server, once all work has ended."""
        await self._pool.close()


async def _nothing(_connection: Any) -> None:
    pass
