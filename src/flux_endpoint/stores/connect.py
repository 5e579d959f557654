"""Opens the stores that a database URL names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux_endpoint.core.clock import Clock, SystemClock
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.stores.accounts.protocol import AccountStore
from flux_endpoint.stores.accounts.store import SqlAccounts
from flux_endpoint.stores.activity.protocol import ActivityStore
from flux_endpoint.stores.activity.store import SqlActivity
from flux_endpoint.stores.batches.protocol import BatchStore
from flux_endpoint.stores.batches.store import SqlBatches
from flux_endpoint.stores.fleets.protocol import FleetStore
from flux_endpoint.stores.fleets.store import SqlFleets
from flux_endpoint.stores.jobs.claims import SqlClaims
from flux_endpoint.stores.jobs.protocol import ClaimStore, JobStore
from flux_endpoint.stores.jobs.store import SqlJobs
from flux_endpoint.stores.pictures.protocol import PictureStore
from flux_endpoint.stores.pictures.store import SqlPictures
from flux_endpoint.stores.rates.protocol import RateStore
from flux_endpoint.stores.rates.store import SqlRates
from flux_endpoint.stores.retention.protocol import RetentionStore
from flux_endpoint.stores.retention.store import SqlRetention
from flux_endpoint.stores.sql.database import Database, errors_translated
from flux_endpoint.stores.sql.private import PRIVATE_FILE, PRIVATE_FOLDER, make_private
from flux_endpoint.stores.sql.sqlite import SqliteDatabase
from flux_endpoint.stores.timekeeping.protocol import Timekeeper
from flux_endpoint.stores.timekeeping.store import SqlTimekeeper
from flux_endpoint.stores.webhooks.protocol import WebhookStore
from flux_endpoint.stores.webhooks.store import SqlWebhooks
from flux_endpoint.stores.workers.protocol import WorkerStore
from flux_endpoint.stores.workers.store import SqlWorkers

_FORMS: Final = "sqlite:///relative.db, sqlite:////absolute.db or postgresql://user:password@host:5432/name"


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is kept in one database, by noun. Made by `open_stores`.

    Attributes:
        database: what is under all of them.
        clock: stamps what is written.
        timekeeper: sets the clock; None for one that only its owner sets.
        rates: shared with other gateways; None on SQLite, whose one gateway counts for itself.
    """

    database: Database
    clock: Clock
    timekeeper: Timekeeper | None
    jobs: JobStore
    claims: ClaimStore
    batches: BatchStore
    pictures: PictureStore
    accounts: AccountStore
    workers: WorkerStore
    webhooks: WebhookStore
    activity: ActivityStore
    retention: RetentionStore
    rates: RateStore | None
    fleets: FleetStore

    def drain(self) -> None:
        """Answer everybody who waits, now and from now on, with what there is: the process is about to end."""
        self.database.signals.drain()

    def hurry(self, seconds: float) -> None:
        """The process is about to end: whatever the database has not answered in so many seconds is refused."""
        self.database.hurry(seconds)

    async def close(self) -> None:
        """Let running work end and let go of the database. Whoever still waits gets `StoreUnavailable`."""
        await self.database.close()
        self.database.signals.fire_all()


async def open_stores(database_url: str, clock: Clock, connections: int = 10) -> Stores:
    """Connect, bring the tables up to date, and return the stores; the caller closes them.

    Args:
        database_url: `sqlite:///data/jobs.db` (relative), `sqlite:////var/lib/jobs.db` (absolute; folders are made) or
            `postgresql://user:password@host:5432/name` (with libpq's options, such as `?sslmode=require`).
        clock: read at every claim, renewal, end and sweep. A `SystemClock` is set by the database's here, and again
            whenever the timekeeper is told to.
        connections: to a PostgreSQL server, held at most. Transactions last milliseconds: many more would only queue
            inside it.

    Raises:
        SettingsError: the URL has another form, or PostgreSQL is asked for and its driver is not installed.
        StoreUnavailable: the server or the file cannot be reached.
    """
    database = _database_at(database_url, connections)
    timekeeper = SqlTimekeeper(database, clock) if isinstance(clock, SystemClock) else None
    try:
        await database.open()
        if timekeeper is not None:
            await timekeeper.keep()
    except BaseException:
        await database.close()
        raise
    return Stores(
        database,
        clock,
        timekeeper,
        jobs=SqlJobs(database, clock),
        claims=SqlClaims(database, clock),
        batches=SqlBatches(database, clock),
        pictures=SqlPictures(database, clock),
        accounts=SqlAccounts(database),
        workers=SqlWorkers(database),
        webhooks=SqlWebhooks(database, clock),
        activity=SqlActivity(database),
        retention=SqlRetention(database, clock),
        rates=None if isinstance(database, SqliteDatabase) else SqlRates(database, clock),
        fleets=SqlFleets(database, clock),
    )


def _database_at(url: str, connections: int) -> Database:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        with errors_translated():
            _make_place(Path(rest[1:]))
        return SqliteDatabase(Path(rest[1:]))
    if scheme in ("postgresql", "postgres") and rest:
        try:
            # Here and not above: the driver is an optional part of the installation.
            from flux_endpoint.stores.sql.postgres import PostgresDatabase
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"DATABASE_URL asks for PostgreSQL, but {error.name} is not installed; "
                "install it with: pip install 'flux-endpoint[postgres]'"
            ) from None
        return PostgresDatabase(url, connections)
    # The URL itself is not repeated: it may hold a password.
    raise SettingsError(f"DATABASE_URL has a form that is not supported; use {_FORMS}")


def _make_place(path: Path) -> None:
    path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    # SQLite makes the files beside it with the rights that this one has.
    if not path.exists():
        path.touch(PRIVATE_FILE)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        make_private(path.with_name(name))
