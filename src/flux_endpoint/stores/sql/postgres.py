"""Runs work on a PostgreSQL server, side by side with other gateways."""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.outage import Outage
from flux_endpoint.stores.fleets.leadership import PostgresLeadership
from flux_endpoint.stores.fleets.protocol import Leadership
from flux_endpoint.stores.sql.database import (
    ANSWER_S,
    Connection,
    Patience,
    Transaction,
    errors_translated,
)
from flux_endpoint.stores.sql.migrate import upgrade
from flux_endpoint.stores.sql.notifications import DEAF_RECHECK_S, Notifications
from flux_endpoint.stores.sql.postgres_connection import PostgresConnection
from flux_endpoint.stores.sql.postgres_pool import Call, Lost, PostgresPool
from flux_endpoint.stores.sql.signals import Signals

T = TypeVar("T")

# Work that is long may be silent for so long, once the server has answered its first statement.
_LONG_S: Final = 60.0
# Of the end of a process, for work that is under way; and then for taking leave of the server.
_END_S: Final = 0.5
_LAST_LOOK_S: Final = 0.1
# How soon who waits learns that the process is about to end.
_SLICE_S: Final = 0.5
# That a connection keeps prepared: more than there are, and lengths of their lists.
_MOST_STATEMENTS: Final = 2000
# What the driver raises, and what of that says that a value is wrong.
_errors_translated: Final = partial(
    errors_translated,
    (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, Lost),
    (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError),
)


class PostgresDatabase:
    """Any number of these may share one server.

    A server that is gone refuses; one behind a broken network is silent, and so may everything be that is said to it:
    a goodbye, too. So each piece of work runs in a task of its own, which is left to its fate when it hears nothing.

    Args:
        url: as libpq takes it; the driver reads it itself, TLS options and lists of hosts included.
        connections: held at most, one of which listens to other gateways; at least one works all the same.
    """

    sorts_queues = True

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        self.signals = Signals(DEAF_RECHECK_S)
        self.has_big_rows = False
        self._connections = connections
        self._pool: PostgresPool | None = None
        self._patience = Patience()
        self._outage = Outage("the database")
        # All there are, also those in nobody's hands.
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()
        self._working: set[asyncio.Task[Any]] = set()
        # None behind a pooler, which hands its connections to somebody else between two transactions.
        self._notifications: Notifications | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """See `Database.open`."""
        with _errors_translated():
            is_pooled = await self._is_pooled()
            # Behind a pooler no statement may have a name: the next transaction may come to another process.
            unnamed = {"statement_cache_size": 0} if is_pooled else {}
            adapted = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""} | unnamed
            # Takes as long as it takes, also to wait for another gateway that does the same.
            arguments = {"async_creator_fn": self._connect} | (adapted if is_pooled else {})
            migrating = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, connect_args=arguments)
            async with migrating.begin() as connection:
                await connection.run_sync(upgrade)
        size = self._connections if is_pooled else max(1, self._connections - 1)
        kept = {"statement_cache_size": _MOST_STATEMENTS, "max_cached_statement_lifetime": 0} | unnamed
        pool = PostgresPool(partial(self._connect, command_timeout=_LONG_S, **kept), size, is_pooled=is_pooled)
        await pool.open()
        self._pool = pool
        if not is_pooled:
            self._notifications = Notifications(self.signals, self._connect)
            self._listening = asyncio.create_task(self._notifications.run())

    async def _is_pooled(self) -> bool:
        """Whether a pooler such as PgBouncer stands between: then who works is not the process that greeted."""
        connection = await self._connect(statement_cache_size=0)
        try:
            # Without parameters it is sent as plain text, which needs no prepared statement.
            tag = await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {int(connection.get_server_pid())}")
        finally:
            connection.terminate()
        return bool(tag == "SELECT 0")

    async def _connect(self, **options: Any) -> Any:
        connection = await asyncpg.connect(self._url, timeout=ANSWER_S, **options)
        self._opened.add(connection)
        return connection

    async def read(self, work: Callable[[Connection], T], *, is_heavy: bool = False) -> T:
        """Run work on one connection of the pool; every statement sees the latest commit."""
        with self._outage.observe("reading"), _errors_translated():
            run = partial(self._lend, work, is_bare=True)
            return await self._answer(partial(self._on_a_living_connection, run), ANSWER_S)

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        is_heavy: bool = False,
        is_long: bool = False,
        is_single: bool = False,
    ) -> T:
        """Run work on one connection of the pool, in one transaction."""

        async def run(call: Call) -> T:
            transaction, result = await self._lend(partial(_transact, work), call, is_bare=is_single)
            # From here and not from `write`: its caller may have left, the commit stands all the same.
            self.signals.fire(transaction.news)
            if transaction.news and self._notifications is not None:
                self._notifications.tell(transaction.news)
            return result

        with self._outage.observe("writing"), _errors_translated():
            # What needs no COMMIT may be done though its answer is lost: whoever asked repeats it, as always.
            work_off = run if is_single else partial(self._on_a_living_connection, run)
            return await self._answer(work_off, _LONG_S if is_long else ANSWER_S)

    async def _lend(self, work: Callable[[PostgresConnection], T], call: Call, *, is_bare: bool) -> T:
        assert self._pool is not None
        return await self._pool.run(work, call, is_bare=is_bare)

    async def _on_a_living_connection(self, run: Callable[[Call], Awaitable[T]], call: Call) -> T:
        """The result of a piece of work; again for each connection of the pool that was dead before it heard an answer.

        So a restarted server costs no failed request, nor a question at each checkout. Nothing can have been committed.
        """
        assert self._pool is not None
        for _ in range(self._pool.size):
            with suppress(Lost):
                return await run(call)
        return await run(call)

    async def scrub(self, *, has_deleted: bool) -> None:
        """See `Database.scrub`: the server's own vacuum does it."""

    async def _answer(self, run: Callable[[Call], Awaitable[T]], silence_s: float) -> T:
        """The result of a piece of work, unless the server is silent for too long."""
        if self._is_closed or self._pool is None:
            raise StoreUnavailable("The database is closed")
        call = Call()
        task = asyncio.ensure_future(run(call))
        self._working.add(task)
        task.add_done_callback(self._end)
        began_s = time.monotonic()
        while not task.done():
            heard_s = None if call.connection is None else call.connection.heard_s
            silent_since_s, limit_s = (began_s, ANSWER_S) if heard_s is None else (heard_s, silence_s)
            left_s = min(silent_since_s + limit_s, self._patience.until_s()) - time.monotonic()
            if left_s <= 0:
                # An event loop that stood still has not read yet what came meanwhile.
                await asyncio.wait({task}, timeout=_LAST_LOOK_S)
                if task.done():
                    break
                # First: the driver would ask the server to stop, on one more connection, and nobody waits for that.
                if call.connection is not None:
                    call.connection.end()
                _bury(task)
                raise StoreUnavailable(f"The database did not answer for {limit_s:g} s")
            await asyncio.wait({task}, timeout=min(left_s, _SLICE_S))
        return await task

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._working.discard(task)
        if not task.cancelled():
            # Whoever waited may have left.
            task.exception()

    def leadership(self) -> Leadership:
        """See `Database.leadership`."""
        return PostgresLeadership(self._connect, is_pooled=self._notifications is None)

    def hurry(self, seconds: float) -> None:
        """See `Database.hurry`."""
        self._patience.hurry(seconds)

    async def close(self) -> None:
        """Let running work end, then close the pool; neither waits for a server that is silent."""
        self._is_closed = True
        if self._listening is not None:
            self._listening.cancel()
        if self._working:
            await asyncio.wait(self._working, timeout=_END_S)
        leaving = [] if self._pool is None else [asyncio.create_task(self._pool.close())]
        if leaving:
            await asyncio.wait(leaving, timeout=_END_S)
        for connection in list(self._opened):
            connection.terminate()
        listening = [] if self._listening is None else [self._listening]
        for task in [*leaving, *self._working]:
            task.cancel()
        if ending := [*leaving, *listening, *self._working]:
            await asyncio.wait(ending, timeout=_END_S)


def _transact(work: Callable[[Transaction], T], connection: PostgresConnection) -> tuple[Transaction, T]:
    transaction = Transaction(connection)
    return transaction, work(transaction)


def _bury(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it ends: what it awaits in its `finally` may be as silent as what was cancelled."""
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_later(_END_S, _bury, task)
