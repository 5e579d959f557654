"""Runs work on a SQLite file: one thread that writes, a few that read beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.stores.database import Transaction, dump_json, errors_translated
from flux_endpoint.stores.migrate import upgrade
from flux_endpoint.stores.signals import Signals

T = TypeVar("T")

# Another process (the command line beside the server) holds the file for milliseconds; seconds mean that it hangs.
_BUSY_TIMEOUT_MS: Final = 10_000

# 16 MB. A checkpoint waits for the disk; SQLite's own 1000 pages are full after a hundred transactions of ours.
_CHECKPOINT_PAGES: Final = 4_000

# So that one long count does not hold up the many short questions.
_READERS: Final = 4


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    # Readers and the writer do not wait for each other.
    cursor.execute("PRAGMA journal_mode=WAL")
    # Survives the death of the process; a power cut may take the last moments, but never half a transaction.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    cursor.close()


class SqliteDatabase:
    """SQLite allows one writer, so there is one: a thread that takes the work in the order it comes.

    The driver is the standard library's. A whole transaction costs one hop to the thread and back; the asyncio driver
    hops for every statement, which measured three times slower.

    Args:
        path: the file, made when missing; its folder must exist.
    """

    # Only the command line writes beside the server, and never anything the server sleeps for.
    recheck_s = 5.0

    def __init__(self, path: Path, signals: Signals) -> None:
        url = URL.create("sqlite", database=str(path))
        self._write_engine = create_engine(url, json_serializer=dump_json)
        # Outside a transaction every statement sees the latest commit.
        self._read_engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=_READERS)
        for engine in (self._write_engine, self._read_engine):
            event.listen(engine, "connect", _prepare)
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._write_thread = ThreadPoolExecutor(1, "sqlite-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "sqlite-read")
        # Kept open, and used in the writing thread only.
        self._writer: Connection | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect and bring the tables up to date."""
        await self._run(self._write_thread, self._connect)

    def _connect(self) -> None:
        self._writer = self._write_engine.connect()
        self._write(lambda transaction: upgrade(transaction.connection))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work in a reading thread; every statement sees the latest commit."""
        return await self._run(self._read_threads, partial(self._read, work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._read_engine.connect() as connection:
            return work(connection)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run work in the writing thread, in one transaction."""
        return await self._run(self._write_thread, partial(self._write, work))

    def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            raise StoreUnavailable("The database is not open")
        with self._writer.begin():
            # A plain BEGIN would take the lock at the first change, and fail at once, unwaited, if another process
            # changed something in between.
            self._writer.exec_driver_sql("BEGIN IMMEDIATE")
            transaction = Transaction(self._writer)
            result = work(transaction)
        if transaction.topics:
            # From here and not from `write`: its caller may have been cancelled, the commit stands all the same.
            self._loop.call_soon_threadsafe(self._signals.fire, transaction.topics)
        return result

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        with errors_translated():
            return await self._loop.run_in_executor(threads, work)

    async def close(self) -> None:
        """Let running work end, then close the file."""
        if self._is_closed:
            return
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
