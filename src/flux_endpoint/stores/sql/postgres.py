"""Runs work on a PostgreSQL server, side by side with other gateways."""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy
from sqlalchemy import Executable, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.outage import Outage
from flux_endpoint.core.raw_json import read_json, write_json
from flux_endpoint.stores.fleets.leadership import PostgresLeadership
from flux_endpoint.stores.fleets.protocol import Leadership
from flux_endpoint.stores.sql.database import (
    ANSWER_S,
    Connection,
    Parameters,
    Patience,
    Rows,
    Transaction,
    errors_translated,
)
from flux_endpoint.stores.sql.migrate import upgrade
from flux_endpoint.stores.sql.notifications import DEAF_RECHECK_S, Notifications
from flux_endpoint.stores.sql.signals import Signals

T = TypeVar("T")

# Work that is long may be silent for so long, once the server has answered its first statement.
_LONG_S: Final = 60.0
# Of the end of a process, for work that is under way; and then for taking leave of the server.
_END_S: Final = 0.5
_LAST_LOOK_S: Final = 0.1
# How soon who waits learns that the process is about to end.
_SLICE_S: Final = 0.5
# A pooler may hand each transaction to another process of the server: a statement must not have a name to be known by.
_POOLED: Final = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

# A server that refuses the connection raises the driver's own errors, which SQLAlchemy does not wrap.
_errors_translated: Final = partial(errors_translated, (asyncpg.PostgresError, asyncpg.InterfaceError))


class _Call:
    """One piece of work, from the wait for a connection on.

    Attributes:
        heard_s: when the server last answered one of its statements; None before.
    """

    def __init__(self) -> None:
        self.heard_s: float | None = None


_call: ContextVar[_Call] = ContextVar("_call")


class PostgresConnection(Connection):
    """SQLAlchemy's connection, with all rows read at once.

    Attributes:
        raw: of SQLAlchemy.
    """

    def __init__(self, raw: sqlalchemy.Connection) -> None:
        self.raw = raw
        self.dialect = raw.dialect

    def execute(
        self, statement: Executable, parameters: Parameters | Sequence[Parameters] = MappingProxyType({}), /
    ) -> Rows:
        """Run a statement; see `Connection.execute`."""
        result = self.raw.execute(statement, parameters)
        rows = Rows(result if result.returns_rows else ())
        rows.first, rows.rowcount = (rows[0] if rows else None), result.rowcount
        return rows


class PostgresDatabase:
    """Any number of these may share one server.

    A server that is gone refuses; one behind a broken network is silent, and so may everything be that is said to it:
    a goodbye, too. So each piece of work runs in a task of its own, which is left to its fate when it hears nothing.

    Args:
        url: as libpq takes it; the driver reads it itself, TLS options and lists of hosts included.
        connections: held at most, one of which listens to other gateways; at least one works all the same.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        self.signals = Signals(DEAF_RECHECK_S)
        self.has_big_rows = False
        self._connections = connections
        self._engine: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None
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
            # Takes as long as it takes, also to wait for another gateway that does the same.
            migrating = self._create_engine(is_pooled, poolclass=NullPool)
            async with migrating.begin() as connection:
                await connection.run_sync(upgrade)
        self._engine = self._reader = self._create_engine(
            is_pooled,
            pool_size=self._connections if is_pooled else max(1, self._connections - 1),
            max_overflow=0,
            pool_timeout=_LONG_S,
            connect_args={"command_timeout": _LONG_S},
        )
        if not is_pooled:
            # The same pool. A question of one statement needs no transaction around it, which would be two more trips.
            self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._notifications = Notifications(self.signals, self._connect)
            self._listening = asyncio.create_task(self._notifications.run())
        event.listen(self._engine.sync_engine, "after_cursor_execute", _note_answer)

    async def _is_pooled(self) -> bool:
        """Whether a pooler such as PgBouncer stands between: then who works is not the process that greeted."""
        connection = await self._connect(statement_cache_size=0)
        try:
            # Without parameters it is sent as plain text, which needs no prepared statement.
            tag = await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {int(connection.get_server_pid())}")
        finally:
            connection.terminate()
        return bool(tag == "SELECT 0")

    def _create_engine(
        self, is_pooled: bool, connect_args: dict[str, Any] | None = None, **options: Any
    ) -> AsyncEngine:
        return create_async_engine(
            "postgresql+asyncpg://",
            connect_args={"async_creator_fn": self._connect} | (connect_args or {}) | (_POOLED if is_pooled else {}),
            json_serializer=write_json,
            json_deserializer=read_json,
            **options,
        )

    async def _connect(self, **options: Any) -> Any:
        connection = await asyncpg.connect(self._url, timeout=ANSWER_S, **options)
        self._opened.add(connection)
        return connection

    async def read(self, work: Callable[[Connection], T], *, is_heavy: bool = False) -> T:
        """Run work on one connection of the pool; every statement sees the latest commit."""

        async def run() -> T:
            assert self._reader is not None
            async with self._reader.connect() as connection:
                return await connection.run_sync(lambda raw: work(PostgresConnection(raw)))

        with self._outage.observe("reading"), _errors_translated():
            return await self._answer(partial(_on_a_living_connection, run), ANSWER_S)

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        is_heavy: bool = False,
        is_long: bool = False,
        is_single: bool = False,
    ) -> T:
        """Run work on one connection of the pool, in one transaction."""
        is_bare = is_single and self._reader is not self._engine

        async def run() -> T:
            assert self._engine is not None
            assert self._reader is not None
            async with self._reader.connect() if is_bare else self._engine.begin() as connection:
                transaction, result = await connection.run_sync(self._transact, work)
            # From here and not from `write`: its caller may have left, the commit stands all the same.
            self.signals.fire(transaction.news)
            if transaction.news and self._notifications is not None:
                self._notifications.tell(transaction.news)
            return result

        with self._outage.observe("writing"), _errors_translated():
            # What needs no COMMIT may be done though its answer is lost: whoever asked repeats it, as always.
            work_off = run if is_bare else partial(_on_a_living_connection, run)
            return await self._answer(work_off, _LONG_S if is_long else ANSWER_S)

    def _transact(self, raw: sqlalchemy.Connection, work: Callable[[Transaction], T]) -> tuple[Transaction, T]:
        transaction = Transaction(PostgresConnection(raw))
        return transaction, work(transaction)

    async def scrub(self, *, has_deleted: bool) -> None:
        """See `Database.scrub`: the server's own vacuum does it."""

    async def _answer(self, run: Callable[[], Awaitable[T]], silence_s: float) -> T:
        """The result of a piece of work, unless the server is silent for too long."""
        if self._is_closed or self._engine is None:
            raise StoreUnavailable("The database is closed")
        call = _Call()

        async def work() -> T:
            _call.set(call)
            return await run()

        task = asyncio.create_task(work())
        self._working.add(task)
        task.add_done_callback(self._end)
        began_s = time.monotonic()
        while not task.done():
            silent_since_s, limit_s = (began_s, ANSWER_S) if call.heard_s is None else (call.heard_s, silence_s)
            left_s = min(silent_since_s + limit_s, self._patience.until_s()) - time.monotonic()
            if left_s <= 0:
                # An event loop that stood still has not read yet what came meanwhile.
                await asyncio.wait({task}, timeout=_LAST_LOOK_S)
                if task.done():
                    break
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
        leaving = [] if self._engine is None else [asyncio.create_task(self._engine.dispose())]
        if leaving:
            await asyncio.wait(leaving, timeout=_END_S)
        for connection in list(self._opened):
            connection.terminate()
        listening = [] if self._listening is None else [self._listening]
        for task in [*leaving, *self._working]:
            task.cancel()
        if ending := [*leaving, *listening, *self._working]:
            await asyncio.wait(ending, timeout=_END_S)


async def _on_a_living_connection(run: Callable[[], Awaitable[T]]) -> T:
    """The result of a piece of work; once more when the connection of the pool was dead before it heard an answer.

    So a restarted server costs no failed request, nor a question at each checkout. Nothing can have been committed.
    """
    try:
        return await run()
    except DBAPIError as error:
        if not error.connection_invalidated or _call.get().heard_s is not None:
            raise
    return await run()


def _note_answer(*_: object) -> None:
    _call.get().heard_s = time.monotonic()


def _bury(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it ends: what it awaits in its `finally` may be as silent as what was cancelled."""
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_later(_END_S, _bury, task)
