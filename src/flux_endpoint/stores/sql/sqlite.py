"""Runs work on a SQLite file: on the spot, or in a thread when it is heavy."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.outage import Outage
from flux_endpoint.stores.fleets.alone import Alone
from flux_endpoint.stores.fleets.protocol import Leadership
from flux_endpoint.stores.sql.compiled import CompiledConnection
from flux_endpoint.stores.sql.database import ANSWER_S, Connection, Patience, Transaction, errors_translated
from flux_endpoint.stores.sql.migrate import upgrade
from flux_endpoint.stores.sql.signals import Signals

T = TypeVar("T")

# Another process (the command line beside the server) holds the file for milliseconds; seconds mean that it hangs.
_BUSY_TIMEOUT_MS: Final = round(ANSWER_S * 1_000)
# Another process may be bringing the tables up to date.
_OPEN_MS: Final = 30_000
# A checkpoint that has to wait is made later.
_CHECKPOINT_TIMEOUT_MS: Final = 500
# About 16 MB of log. A checkpoint waits for the disk, so the thread makes it and never the event loop.
_WRITES_PER_CHECKPOINT: Final = 400
_SCRUB_TIMEOUT_MS: Final = 50
# Only the command line writes beside the server; of that, the server sleeps for webhooks to replay only. No command
# queues a job: one of another server on the same file, which is not meant, waits for so long.
_RECHECK_S: Final = 5.0
# So that one long count does not hold up another.
_READERS: Final = 4
# All there are.
_STATEMENTS: Final = 512
# A plain BEGIN would take the lock at the first change, and fail if another process changed something between.
_BEGIN: Final = "BEGIN IMMEDIATE"

_PRAGMAS: Final = (
    # Readers and the writer do not wait for each other.
    "journal_mode=WAL",
    # Survives the death of the process; a power cut may take the last moments, but never half a transaction.
    "synchronous=NORMAL",
    "wal_autocheckpoint=0",
    # What is deleted is overwritten. Some builds of SQLite do so by themselves.
    "secure_delete=ON",
)

_errors_translated: Final = partial(errors_translated, (sqlite3.Error,), (sqlite3.IntegrityError, sqlite3.DataError))


class SqliteDatabase:
    """SQLite allows one writer at a time, and answers a question by an index faster than a thread can be woken for it.

    So work runs on the spot, in the event loop, unless it is heavy. The loop's connection never waits: when another one
    is writing, the work goes to the writing thread, which does, as all heavy work goes and the checkpoints, which wait
    for the disk.

    Args:
        path: the file, made when missing; its folder must exist.
    """

    sorts_queues = False

    def __init__(self, path: Path) -> None:
        self.signals = Signals(_RECHECK_S)
        self.has_big_rows = False
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._write_thread = ThreadPoolExecutor(1, "sqlite-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "sqlite-read")
        # One for the event loop, one for the writing thread and one for each reading thread, all of them kept open. The
        # loop reads and writes with one: a second one would have to read again every page that the first has changed.
        self._here: CompiledConnection | None = None
        self._writer: CompiledConnection | None = None
        self._of_thread = threading.local()
        self._opened: list[CompiledConnection] = []
        self._writes = 0
        self._has_traces = False
        self._patience = Patience()
        self._outage = Outage("the database")
        self._is_closed = False

    async def open(self) -> None:
        """See `Database.open`."""
        await self._run(self._write_thread, self._upgrade)
        with _errors_translated():
            # It waits for nobody: that would hold up the event loop.
            self._here = self._connect(0)

    def _upgrade(self) -> None:
        # Alembic speaks to SQLAlchemy's connections only.
        engine = create_engine("sqlite://", creator=partial(self._raw_connection, _OPEN_MS), poolclass=NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection)
        self._writer = self._connect(_BUSY_TIMEOUT_MS)

    def _raw_connection(self, busy_timeout_ms: int) -> sqlite3.Connection:
        # It is closed by another thread than it works in.
        raw = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS)
        # To open the file it may have to wait for another process that opens or closes it.
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", *_PRAGMAS, f"busy_timeout={busy_timeout_ms}"):
            raw.execute(f"PRAGMA {pragma}")
        return raw

    def _connect(self, busy_timeout_ms: int) -> CompiledConnection:
        connection = CompiledConnection(self._raw_connection(busy_timeout_ms))
        self._opened.append(connection)
        return connection

    async def read(self, work: Callable[[Connection], T], *, is_heavy: bool = False) -> T:
        """See `Database.read`. Every statement sees the latest commit."""
        if is_heavy or self._here is None:
            with self._outage.observe("reading"):
                return await self._run(self._read_threads, partial(self._read_in_thread, work))
        try:
            result = work(self._here)
        except sqlite3.Error as error:
            raise self._told("reading", error) from error
        if self._outage.is_on:
            self._outage.answered("reading")
        return result

    def _read_in_thread(self, work: Callable[[Connection], T]) -> T:
        connection: CompiledConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = self._connect(_BUSY_TIMEOUT_MS)
        return work(connection)

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        is_heavy: bool = False,
        is_long: bool = False,
        is_single: bool = False,
    ) -> T:
        """See `Database.write`."""
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        self._writes += 1
        if self._writes % _WRITES_PER_CHECKPOINT == 0:
            self._write_thread.submit(self._checkpoint)
        if not (is_heavy or is_long or self._here is None):
            transaction = Transaction(self._here)
            try:
                if not is_single:
                    self._here.raw.execute(_BEGIN)
                # Commits, or rolls back; a statement by itself is a transaction.
                with self._here.raw:
                    result = work(transaction)
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise self._told("writing", error) from error
            else:
                if self._outage.is_on:
                    self._outage.answered("writing")
                if transaction.news:
                    self.signals.fire(transaction.news)
                return result
        # Another connection is writing. Also what waits behind others in the thread has its answer in time.
        give_up_s = self._patience.until_s()
        with self._outage.observe("writing"):
            return await self._run(self._write_thread, partial(self._write_in_thread, work, give_up_s))

    def _told(self, what: str, error: sqlite3.Error) -> Exception:
        """An error of the driver as one of ours; the log is told of an outage."""
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return ValueError(f"The database refuses the value: {error}")
        unavailable = StoreUnavailable(f"The database did not answer: {error}")
        self._outage.failed(what, unavailable)
        return unavailable

    def _write_in_thread(self, work: Callable[[Transaction], T], give_up_s: float) -> T:
        # Tried once in any case: when this thread comes late, the file need not be held by anybody.
        left_ms = max(1, round((give_up_s - time.monotonic()) * 1_000))
        writer = self._patient_writer(left_ms)
        transaction = Transaction(writer)
        try:
            writer.raw.execute(_BEGIN)
            with writer.raw:
                result = work(transaction)
        except sqlite3.Error as error:
            if not _is_busy(error):
                raise
            raise StoreUnavailable("The database did not answer: it is locked by another process") from error
        if transaction.news:
            # From here and not from `write`: its caller may have been cancelled, the commit stands all the same.
            self._loop.call_soon_threadsafe(self.signals.fire, transaction.news)
        return result

    def _patient_writer(self, busy_timeout_ms: int) -> CompiledConnection:
        assert self._writer is not None
        self._writer.raw.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        return self._writer

    def _checkpoint(self) -> None:
        # Writers wait meanwhile, in the queue of this thread; the log of busy ones would else grow without end.
        with suppress(sqlite3.OperationalError):
            self._patient_writer(_CHECKPOINT_TIMEOUT_MS).raw.execute("PRAGMA wal_checkpoint(RESTART)")

    async def scrub(self, *, has_deleted: bool) -> None:
        """See `Database.scrub`. The pages are overwritten as they are, but their former text is in the log too."""
        self._has_traces = self._has_traces or has_deleted
        if self._has_traces:
            self._has_traces = not await self._run(self._write_thread, self._empty_log)

    def _empty_log(self) -> bool:
        """Write all of the log into the file and cut it to nothing; False when somebody reads from it."""
        # Not for as long as a writer waits for others: nobody can write meanwhile.
        is_busy, *_ = self._patient_writer(_SCRUB_TIMEOUT_MS).raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        with _errors_translated():
            return await self._loop.run_in_executor(threads, work)

    def leadership(self) -> Leadership:
        """See `Database.leadership`. A file has one server."""
        return Alone()

    def hurry(self, seconds: float) -> None:
        """See `Database.hurry`."""
        self._patience.hurry(seconds)

    async def close(self) -> None:
        """See `Database.close`."""
        if self._is_closed:
            return
        closing = self._loop.run_in_executor(self._write_thread, self._disconnect)
        self._is_closed, self._here = True, None
        with _errors_translated():
            await closing
        self._write_thread.shutdown()

    def _disconnect(self) -> None:
        self._read_threads.shutdown()
        # Closing the last connection folds the write-ahead log into the file.
        for connection in self._opened:
            connection.close()


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection writes for longer than this one waits: nothing was done."""
    # The low byte: above it stands why.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_BUSY
