"""Who decides for all servers on one PostgreSQL: whoever holds a lock that belongs to one connection."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from flux_endpoint.stores.sql.database import ANSWER_S

logger = logging.getLogger(__name__)

# Of a lock that belongs to a session; all versions of the program must agree on it.
_LOCK: Final = 7_040_152_236_101_775_001
# PostgreSQL keeps the lock of a server behind a cut link until it notices: then within about 15 s, not two hours.
_NOTICING: Final = (
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 3",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 15000",
)
_CLOSE_S: Final = 0.5
# The driver takes the goodbye of a server that ended its connection for a fault of its own.
_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class PostgresLeadership:
    """Implements `Leadership` with an advisory lock, on a connection of its own: a pool would hand it to others.

    Behind a pooler that gives each transaction to another process of the server, no lock lasts. There every server
    decides; they see the same and decide alike.

    Args:
        connect: opens a connection to the server.
        is_pooled: whether such a pooler stands between.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]], is_pooled: bool) -> None:
        self._connect = connect
        self._is_pooled = is_pooled
        self._connection: Any = None
        self._has_lock = False

    async def is_mine(self) -> bool:
        """See `Leadership.is_mine`."""
        if self._is_pooled:
            return True
        had_lock = self._has_lock
        try:
            async with asyncio.timeout(ANSWER_S):
                self._has_lock = await self._ask()
        except _ERRORS as error:
            logger.debug("nobody can be asked who decides: %s", error)
            self._drop()
        except TimeoutError:
            logger.debug("nobody answers who decides")
            self._drop()
        if self._has_lock != had_lock:
            does = "decides" if self._has_lock else "no longer decides"
            logger.info("this server %s how many workers there are", does)
        return self._has_lock

    async def _ask(self) -> bool:
        if self._connection is None:
            self._connection = await self._connect()
            for setting in _NOTICING:
                await self._connection.execute(setting)
        # A pooler that came between since the start would answer from another process.
        pid = self._connection.get_server_pid()
        if await self._connection.fetchval("SELECT pg_backend_pid()") != pid:
            self._drop()
            return False
        # Taken once: the server counts how often, and frees it with the connection.
        return self._has_lock or bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection, self._has_lock = None, False

    async def close(self) -> None:
        """See `Leadership.close`."""
        connection, self._connection, self._has_lock = self._connection, None, False
        if connection is not None:
            try:
                await connection.close(timeout=_CLOSE_S)
            except (*_ERRORS, TimeoutError):
                connection.terminate()
