"""Runs work on a PostgreSQL server, side by side with other gateways."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.stores.database import Transaction, dump_json, errors_translated
from flux_endpoint.stores.migrate import upgrade
from flux_endpoint.stores.signals import Signals

T = TypeVar("T")

# Transactions last milliseconds: more connections would only queue inside the server.
_POOL_SIZE: Final = 10
_POOL_TIMEOUT_S: Final = 10
_CONNECT_TIMEOUT_S: Final = 10
_COMMAND_TIMEOUT_S: Final = 30


class PostgresDatabase:
    """Any number of these may share one server.

    Args:
        url: as libpq takes it; the driver reads it itself, TLS options and lists of hosts included.
    """

    # A job enqueued through another gateway fires no signal here: look at the database twice a second.
    recheck_s = 0.5

    def __init__(self, url: str, signals: Signals) -> None:
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(asyncpg.connect, url, timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S),
            json_serializer=dump_json,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_S,
            # One round trip per checkout, so that a restarted server costs no failed request.
            pool_pre_ping=True,
        )
        # The same pool. A question of one statement needs no transaction around it, which would be two more trips.
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._signals = signals
        self._is_closed = False

    async def open(self) -> None:
        """Connect and bring the tables up to date."""
        await self.write(lambda transaction: upgrade(transaction.connection))

    async def read(self, work: Callable[[Connection], T], *, is_quick: bool = False) -> T:
        """Run work on one connection of the pool; every statement sees the latest commit."""
        with self._errors_translated():
            async with self._autocommit.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Callable[[Transaction], T], *, is_quick: bool = False) -> T:
        """Run work on one connection of the pool, in one transaction."""
        with self._errors_translated():
            async with self._engine.begin() as connection:
                transaction, result = await connection.run_sync(_run, work)
        self._signals.fire(transaction.news)
        return result

    async def scrub(self, *, has_deleted: bool) -> None:
        """See `Database.scrub`: the server's own vacuum does it."""

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreUnavailable("The database is closed")
        # A server that refuses the connection raises the driver's own errors, which SQLAlchemy does not wrap.
        with errors_translated((asyncpg.PostgresError, asyncpg.InterfaceError)):
            yield

    async def close(self) -> None:
        """Close the pool."""
        self._is_closed = True
        await self._engine.dispose()


def _run(connection: Connection, work: Callable[[Transaction], T]) -> tuple[Transaction, T]:
    transaction = Transaction(connection)
    return transaction, work(transaction)
