"""Opens the store that a database URL names."""

from pathlib import Path
from typing import Final

from flux_endpoint.core.clock import Clock, SystemClock
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.stores.jobs.store import SqlStore
from flux_endpoint.stores.sql.database import Database, errors_translated
from flux_endpoint.stores.sql.private import PRIVATE_FILE, PRIVATE_FOLDER, make_private
from flux_endpoint.stores.sql.signals import Signals
from flux_endpoint.stores.sql.sqlite import SqliteDatabase
from flux_endpoint.stores.sql.timekeeping import SqlTimekeeper

_FORMS: Final = "sqlite:///relative.db, sqlite:////absolute.db or postgresql://user:password@host:5432/name"


async def open_store(database_url: str, clock: Clock, connections: int = 10) -> SqlStore:
    """Connect, bring the tables up to date, and return the store; the caller closes it.

    Args:
        database_url: `sqlite:///data/jobs.db` (relative), `sqlite:////var/lib/jobs.db` (absolute; folders are made) or
            `postgresql://user:password@host:5432/name` (with libpq's options, such as `?sslmode=require`).
        clock: read at every claim, renewal, end and sweep. A `SystemClock` is set by the database's here, and again
            whenever the store's `timekeeper` is told to.
        connections: to a PostgreSQL server, held at most. Transactions last milliseconds: many more would only queue
            inside it.

    Raises:
        SettingsError: the URL has another form, or PostgreSQL is asked for and its driver is not installed.
        StoreUnavailable: the server or the file cannot be reached.
    """
    scheme, _, rest = database_url.partition("://")
    signals = Signals()
    database: Database
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        database = await _open_sqlite(Path(rest[1:]), signals)
    elif scheme in ("postgresql", "postgres") and rest:
        database = await _open_postgres(database_url, signals, connections)
    else:
        # The URL itself is not repeated: it may hold a password.
        raise SettingsError(f"DATABASE_URL has a form that is not supported; use {_FORMS}")
    if not isinstance(clock, SystemClock):
        return SqlStore(database, signals, clock)
    timekeeper = SqlTimekeeper(database, clock)
    try:
        await timekeeper.keep()
    except BaseException:
        await database.close()
        raise
    return SqlStore(database, signals, clock, timekeeper)


async def _open_sqlite(path: Path, signals: Signals) -> Database:
    with errors_translated():
        _make_place(path)
    database = SqliteDatabase(path, signals)
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return database


def _make_place(path: Path) -> None:
    path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    # SQLite makes the files beside it with the rights that this one has.
    if not path.exists():
        path.touch(PRIVATE_FILE)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        make_private(path.with_name(name))


async def _open_postgres(url: str, signals: Signals, connections: int) -> Database:
    try:
        # Here and not above: the driver is an optional part of the installation.
        from flux_endpoint.stores.sql.postgres import PostgresDatabase
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"DATABASE_URL asks for PostgreSQL, but {error.name} is not installed; "
            "install it with: pip install 'flux-endpoint[postgres]'"
        ) from None
    database = PostgresDatabase(url, signals, connections)
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return database
