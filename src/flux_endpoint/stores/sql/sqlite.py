"""Runs work on a SQLite file: quick work on the spot, all other in threads."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.outage import Outage
from flux_endpoint.stores.sql.compiled import QuickConnection
from flux_endpoint.stores.sql.database import ANSWER_S, Patience, Transaction, errors_translated
from flux_endpoint.stores.sql.migrate import upgrade
from flux_endpoint.stores.sql.signals import News, Signals

T = TypeVar("T")

# Another process (the command line beside the server) holds the file for milliseconds; seconds mean that it hangs.
_BUSY_TIMEOUT_MS: Final = round(ANSWER_S * 1_000)
# Another process may be bringing the tables up to date.
_OPEN_S: Final = 30.0
# A checkpoint that has to wait is made later.
_CHECKPOINT_TIMEOUT_MS: Final = 500

# About 16 MB of log. A checkpoint waits for the disk, so the thread makes it and never the event loop.
_WRITES_PER_CHECKPOINT: Final = 400

_SCRUB_TIMEOUT_MS: Final = 50

# Only the command line writes beside the server; of that, the server sleeps for webhooks to replay only.
_RECHECK_S: Final = 5.0

# So that one long count does not hold up the many short questions.
_READERS: Final = 4


def _engine(url: URL, *, pool_size: int = 1, is_autocommit: bool = False) -> Engine:
    """Connections of one kind, for threads: they wait for another writer.

    Args:
        url: of the file.
        pool_size: how many are kept.
        is_autocommit: outside an explicit transaction every statement stands alone and sees the latest commit.
    """

    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if is_autocommit else {}
    engine = create_engine(url, pool_size=pool_size, **options)
    event.listen(engine, "connect", prepare)
    return engine


_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    # Readers and the writer do not wait for each other.
    "PRAGMA journal_mode=WAL",
    # Survives the death of the process; a power cut may take the last moments, but never half a transaction.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA wal_autocheckpoint=0",
    # What is deleted is overwritten. Some builds of SQLite do so by themselves.
    "PRAGMA secure_delete=ON",
)


def _quick_connection(path: Path) -> QuickConnection:
    raw = sqlite3.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        raw.execute(pragma)
    # From here on it waits for nobody: that would hold up the event loop. Opening it may have to, for another process
    # that opens or closes the file.
    raw.execute("PRAGMA busy_timeout=0")
    return QuickConnection(raw)


class SqliteDatabase:
    """SQLite allows one writer at a time, and answers a question by an index faster than a thread can be woken for it.

    So quick work runs on the spot, in the event loop. Its connection never waits: when another one is writing, the
    work goes to the writing thread, which does, as everything goes that may take long or waits for the disk.

    Args:
        path: the file, made when missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        url = URL.create("sqlite", database=str(path))
        self._path = path
        self._write_engine = _engine(url)
        self._read_engine = _engine(url, pool_size=_READERS, is_autocommit=True)
        self.signals = Signals(_RECHECK_S)
        self._loop = asyncio.get_running_loop()
        self._write_thread = ThreadPoolExecutor(1, "sqlite-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "sqlite-read")
        # Kept open: one for the writing thread only, the other for the event loop only. That one reads and writes:
        # a second one would have to read again every page that the first has changed.
        self._writer: Connection | None = None
        self._quick: QuickConnection | None = None
        self._writes = 0
        self._has_traces = False
        self._patience = Patience()
        self._outage = Outage("the database")
        self._is_closed = False

    async def open(self) -> None:
        """See `Database.open`."""
        await self._run(self._write_thread, self._connect)
        try:
            self._quick = _quick_connection(self._path)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The database did not answer: {error}") from error

    def _connect(self) -> None:
        self._writer = self._write_engine.connect()
        self._write(self._writer, lambda transaction: upgrade(transaction.connection), self._patience.until_s(_OPEN_S))

    async def read(self, work: Callable[[Connection], T], *, is_quick: bool = False) -> T:
        """See `Database.read`. Every statement sees the latest commit."""
        if not is_quick or self._quick is None:
            with self._outage.watch("reading"):
                return await self._run(self._read_threads, partial(self._read, work))
        try:
            result = work(_as_connection(self._quick))
        except sqlite3.Error as error:
            raise self._told("reading", error) from error
        if self._outage.is_on:
            self._outage.answered("reading")
        return result

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._read_engine.connect() as connection:
            return work(connection)

    async def write(self, work: Callable[[Transaction], T], *, is_quick: bool = False, is_long: bool = False) -> T:
        """See `Database.write`."""
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        self._writes += 1
        if self._writes % _WRITES_PER_CHECKPOINT == 0:
            self._write_thread.submit(self._checkpoint)
        if not is_quick or self._quick is None or not self._begins_at_once(self._quick.raw):
            # Also what waits behind others in the thread has its answer in time.
            give_up_s = self._patience.until_s()
            with self._outage.watch("writing"):
                return await self._run(self._write_thread, partial(self._write_in_thread, work, give_up_s))
        raw, transaction = self._quick.raw, Transaction(_as_connection(self._quick))
        try:
            result = work(transaction)
            raw.execute("COMMIT")
        except BaseException as error:
            # Some errors make SQLite do so by itself.
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._told("writing", error) from error
            raise
        if self._outage.is_on:
            self._outage.answered("writing")
        if transaction.news:
            self.signals.fire(transaction.news)
        return result

    def _begins_at_once(self, raw: sqlite3.Connection) -> bool:
        """Begin a transaction that may write; False when another connection is writing."""
        try:
            # A plain BEGIN would take the lock at the first change, and fail if another process changed something
            # between.
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # The low byte: above it stands why.
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise self._told("writing", error) from error
        return True

    def _told(self, what: str, error: sqlite3.Error) -> Exception:
        """An error of the driver as one of ours; the log is told of an outage."""
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return ValueError(f"The database refuses the value: {error}")
        unavailable = StoreUnavailable(f"The database did not answer: {error}")
        self._outage.failed(what, unavailable)
        return unavailable

    def _write_in_thread(self, work: Callable[[Transaction], T], give_up_s: float) -> T:
        if self._writer is None:
            raise StoreUnavailable("The database is not open")
        result, news = self._write(self._writer, work, give_up_s)
        if news:
            # From here and not from `write`: its caller may have been cancelled, the commit stands all the same.
            self._loop.call_soon_threadsafe(self.signals.fire, news)
        return result

    def _write(self, connection: Connection, work: Callable[[Transaction], T], give_up_s: float) -> tuple[T, News]:
        # Tried once in any case: when this thread comes late, the file need not be held by anybody.
        left_ms = max(1, round((give_up_s - time.monotonic()) * 1_000))
        with connection.begin():
            connection.exec_driver_sql(f"PRAGMA busy_timeout={left_ms}")
            # A plain BEGIN would take the lock at the first change, and fail at once, unwaited, if another process
            # changed something in between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            transaction = Transaction(connection)
            result = work(transaction)
        return result, transaction.news

    def _checkpoint(self) -> None:
        # Writers wait meanwhile, in the queue of this thread; the log of busy ones would else grow without end.
        if self._writer is not None:
            with suppress(OperationalError):
                self._writer.exec_driver_sql(f"PRAGMA busy_timeout={_CHECKPOINT_TIMEOUT_MS}")
                self._writer.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)")
            self._writer.rollback()

    async def scrub(self, *, has_deleted: bool) -> None:
        """See `Database.scrub`. The pages are overwritten as they are, but their former text is in the log too."""
        self._has_traces = self._has_traces or has_deleted
        if self._has_traces:
            self._has_traces = not await self._run(self._write_thread, self._empty_log)

    def _empty_log(self) -> bool:
        """Write all of the log into the file and cut it to nothing; False when somebody reads from it."""
        if self._writer is None:
            return False
        # Not for as long as a writer waits for others: nobody can write meanwhile.
        self._writer.exec_driver_sql(f"PRAGMA busy_timeout={_SCRUB_TIMEOUT_MS}")
        is_busy = self._writer.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
        self._writer.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        self._writer.rollback()
        return not is_busy

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        with errors_translated():
            return await self._loop.run_in_executor(threads, work)

    def hurry(self, seconds: float) -> None:
        """See `Database.hurry`."""
        self._patience.hurry(seconds)

    async def close(self) -> None:
        """Let running work end, then close the file."""
        if self._is_closed:
            return
        if self._quick is not None:
            self._quick.close()
            self._quick = None
        closing = self._loop.run_in_executor(self._write_thread, self._disconnect)
        self._is_closed = True
        with errors_translated():
            await closing
        self._write_thread.shutdown()

    def _disconnect(self) -> None:
        self._read_threads.shutdown()
        self._read_engine.dispose()
        if self._writer is not None:
            self._writer.close()
        # Closing the last connection folds the write-ahead log into the file.
        self._write_engine.dispose()


def _as_connection(quick: QuickConnection) -> Connection:
    # It has all of a connection that quick work uses; the contract tests of the stores run all such work on it.
    return cast(Connection, quick)
