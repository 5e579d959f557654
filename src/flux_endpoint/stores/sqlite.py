"""Runs work on a SQLite file: one thread that writes, one that reads beside it."""

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
        path: the file; it and its folder are made when missing.
    """

    # Only the command line writes beside the server, and never anything the server sleeps for.
    recheck_s = 5.0

    def __init__(self, path: Path, signals: Signals) -> None:
        self._engine = create_engine(URL.create("sqlite", database=str(path)), json_serializer=dump_json)
        event.listen(self._engine, "connect", _prepare)
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._write_thread = ThreadPoolExecutor(1, "sqlite-write")
        self._read_thread = ThreadPoolExecutor(1, "sqlite-read")
        self._is_closed = False
        # Each is used in its own thread only.
        self._writer: Connection | None = None
        self._reader: Connection | None = None

    async def open(self) -> None:
        """Connect and bring the tables up to date."""
        await self._run(self._write_thread, self._connect_writer)
        await self._run(self._read_thread, self._connect_reader)

    def _connect_writer(self) -> None:
        self._writer = self._engine.connect()
        self._write(lambda transaction: upgrade(transaction.connection))

    def _connect_reader(self) -> None:
        self._reader = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work in the reading thread; every statement sees the latest commit."""
        return await self._run(self._read_thread, partial(self._read, work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        if self._reader is None:
            raise StoreUnavailable("The database is not open")
        try:
            return work(self._reader)
        finally:
            self._reader.rollback()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run work in the writing thread, in one transaction."""
        return await self._run(self._write_thread, partial(self._write, work))

    def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            raise StoreUnavailable("The database is not open")
        with self._writer.begin():
            # A plain BEGIN would take the lock at the first change, and fail at once, unwaited, if another process
            # changed something in between. An event would do it for the reader, too.
            self._writer.exec_driver_sql("BEGIN IMMEDIATE")
            transaction = Transaction(self._writer)
            result = work(transaction)
        if transaction.topics:
            # From here and not from `write`: its caller may have been cancelled, the commit stands all the same.
            self._loop.call_soon_threadsafe(self._signals.fire, transaction.topics)
        return result

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        with errors_translated():
            return await self._loop.run_in_executor(thread, work)

    async def close(self) -> None:
        """Let running work end, then close the file."""
        if self._is_closed:
            return
        try:
            await self._run(self._read_thread, self._disconnect_reader)
            await self._run(self._write_thread, self._disconnect_writer)
        finally:
            self._is_closed = True
            self._read_thread.shutdown()
            self._write_thread.shutdown()

    def _disconnect_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _disconnect_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        # Closing the last connection folds the write-ahead log into the file.
        self._engine.dispose()
