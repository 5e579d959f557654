"""The connections to one PostgreSQL server, lent to one piece of work each."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from flux_endpoint.stores.sql.compiled import CompiledTexts
from flux_endpoint.stores.sql.postgres_connection import PostgresConnection, run_sync

T = TypeVar("T")

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED;"
# The connection is of no use any more, whether it is seen to be closed yet or not.
_GONE: Final = (
    OSError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    # A migration has changed a table under statements that were prepared.
    asyncpg.InvalidCachedStatementError,
)


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
    """Opens connections as they are needed and keeps them.

    Args:
        connect: opens one of the driver's.
        size: so many at most.
        is_pooled: see `PostgresConnection`; then all work is a transaction. Also as the attribute.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]], size: int, *, is_pooled: bool) -> None:
        self._connect = connect
        self.is_pooled = is_pooled
        self._texts = CompiledTexts(asyncpg_dialect())  # type: ignore[no-untyped-call]
        self._room = asyncio.Semaphore(size)
        self._idle: list[PostgresConnection] = []

    async def run(self, work: Callable[[PostgresConnection], T], call: Call, *, is_bare: bool) -> T:
        """The result of work on one connection.

        Args:
            work: called with it. What it raises, this raises too.
            call: told of the connection.
            is_bare: without a transaction around it: each of its statements is one.

        Raises:
            Lost: see there.
        """
        async with self._room:
            connection = call.connection = await self._take()
            try:
                if is_bare and not self.is_pooled:
                    result = await run_sync(work, connection)
                else:
                    await connection.raw.execute(_BEGIN)
                    result = await run_sync(work, connection)
                    await connection.raw.execute("COMMIT;")
            except BaseException as error:
                await self._recover(connection, error)
                if connection.heard_s is None and connection.raw.is_closed() and isinstance(error, Exception):
                    raise Lost(str(error) or type(error).__name__) from error
                raise
            self._idle.append(connection)
            return result

    async def _take(self) -> PostgresConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.raw.is_closed():
                connection.heard_s = None
                return connection
        return PostgresConnection(await self._connect(), self._texts, is_pooled=self.is_pooled)

    async def _recover(self, connection: PostgresConnection, error: BaseException) -> None:
        """Keep a connection whose work has failed if it is sound; else end it, and others that may be like it."""
        is_sound, is_gone = False, isinstance(error, _GONE)
        try:
            is_sound = isinstance(error, Exception) and not is_gone and await _rolled_back(connection)
        finally:
            if is_sound:
                self._idle.append(connection)
            else:
                connection.raw.terminate()
        if is_gone:
            idle, self._idle = self._idle, []
            for each in idle:
                each.raw.terminate()

    async def close(self) -> None:
        """Take leave of the server on all connections that nobody has."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.raw.close() for connection in idle), return_exceptions=True)


async def _rolled_back(connection: PostgresConnection) -> bool:
    raw = connection.raw
    if raw.is_in_transaction() and not raw.is_closed():
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await raw.execute("ROLLBACK;")
    return not (raw.is_closed() or raw.is_in_transaction())
