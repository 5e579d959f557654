"""What only the SQL store promises: migrations, URLs, errors, a shared SQLite file."""

import asyncio
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql as postgres_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import SettingsError, StoreUnavailable
from flux_endpoint.core.job import Completed
from flux_endpoint.stores.connect import open_stores
from flux_endpoint.stores.fleets.store import RUNNING
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs.claim_statements import IN_ORDER
from flux_endpoint.stores.sql import sqlite as sqlite_module
from flux_endpoint.stores.sql.schema import metadata
from flux_endpoint.stores.workers.statements import COUNT_RUNNING
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio


# What SQLite's tables may lose when Alembic makes them anew (findings/alembic_batch_gives_a_number_twice.sh).
KEPT = [f"sql LIKE '%{words}%'" for words in ("AUTOINCREMENT", "WITHOUT ROWID", "COLLATE", "CHECK")]


def made_with(connection):
    """What Alembic does not compare, as the database spells it: indexes with their conditions, kinds of tables."""
    if connection.dialect.name == "sqlite":
        query = f"""
            SELECT name, CASE type WHEN 'index' THEN sql END, {", ".join(KEPT)} FROM sqlite_master
            WHERE type = 'index' OR (type = 'table' AND name NOT LIKE 'sqlite_%') ORDER BY name
        """
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    return [tuple(row) for row in connection.execute(text(query)) if "alembic" not in row[0]]


async def test_migrations_make_exactly_the_tables_of_the_schema(stores, database_url):
    def work(connection):
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, metadata)
        migrated = made_with(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return differences, migrated, made_with(connection)

    # Alembic speaks to SQLAlchemy's connections only.
    if database_url.startswith("sqlite"):
        with create_engine(database_url, poolclass=NullPool).begin() as connection:
            differences, migrated, created = work(connection)
    else:
        connect = {"async_creator_fn": partial(asyncpg.connect, database_url)}
        engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, connect_args=connect)
        async with engine.begin() as connection:
            differences, migrated, created = await connection.run_sync(work)
    assert differences == []
    assert migrated == created


async def test_opening_again_migrates_nothing_and_keeps_everything(stores, open_another, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    for _ in range(2):
        assert await (await open_another()).jobs.get(DEV, job.id) == job


def test_processes_that_start_together_on_an_empty_database_all_come_up(database_url):
    script = (
        "import asyncio, sys\n"
        "from flux_endpoint.core.clock import SystemClock\n"
        "from flux_endpoint.stores.connect import open_stores\n"
        "async def main():\n"
        "    store = await open_stores(sys.argv[1], SystemClock())\n"
        "    assert await store.accounts.list_keys() == []\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, database_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors


@pytest.mark.parametrize(
    "url", ["", "jobs.db", "sqlite://", "sqlite:///", "sqlite:jobs.db", "mysql://user:secret@host/db", "postgresql://"]
)
async def test_a_wrong_url_is_refused_with_the_setting_and_the_allowed_forms(url):
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        await open_stores(url, SystemClock())
    assert "postgresql://" in str(caught.value)
    assert "secret" not in str(caught.value)


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_sqlite_file_is_private(tmp_path, clock, is_old):
    path = tmp_path / "made" / "jobs.db"
    if is_old:
        path.parent.mkdir(0o700)
        path.touch(0o644)
    stores = await open_stores(f"sqlite:///{path}", clock)
    await stores.jobs.enqueue(sample_job(clock))
    assert modes_in(path.parent) == {"made": 0o700, "jobs.db": 0o600, "jobs.db-shm": 0o600, "jobs.db-wal": 0o600}
    await stores.close()


async def test_a_relative_sqlite_url_is_in_the_working_folder(tmp_path, monkeypatch, clock):
    monkeypatch.chdir(tmp_path)
    stores = await open_stores("sqlite:///data/jobs.db", clock)
    await stores.close()
    assert (tmp_path / "data" / "jobs.db").exists()


async def test_postgres_without_its_driver_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "flux_endpoint.stores.sql.postgres", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'flux-endpoint\[postgres\]'"):
        await open_stores("postgresql://host/name", SystemClock())


async def test_a_postgres_that_cannot_be_reached_is_unavailable(unused_port):
    with pytest.raises(StoreUnavailable) as caught:
        await open_stores(f"postgresql://user:secret@127.0.0.1:{unused_port}/name", SystemClock())
    assert "secret" not in str(caught.value)


async def test_a_postgres_database_that_does_not_exist_is_unavailable(postgres_server):
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await open_stores(postgres_server.get_uri("nowhere"), SystemClock())


async def test_libpq_options_in_the_url_are_understood(postgres_url, clock):
    stores = await open_stores(f"{postgres_url}&sslmode=prefer&application_name=flux", clock)
    await stores.close()


@pytest.mark.parametrize("content", [None, b"this is no database, and long enough to be read as a header" * 50])
async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path, content):
    path = tmp_path / "jobs.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        await open_stores(f"sqlite:///{path}", SystemClock())


async def test_a_sqlite_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await open_stores(f"sqlite:///{tmp_path}/file/jobs.db", SystemClock())


async def test_errors_of_the_database_are_translated(stores, clock):
    await stores.database.write(lambda transaction: transaction.connection.execute(text("DROP TABLE jobs")))
    verbs = [
        lambda: stores.jobs.enqueue(sample_job(clock)),
        lambda: stores.jobs.get(DEV, "x"),
        lambda: stores.jobs.wait(DEV, "x", timeout_s=9),
        lambda: stores.claims.claim("w", [DEV], 1, LEASE_S),
        lambda: stores.claims.wait_for_jobs([DEV], timeout_s=9),
        lambda: stores.claims.renew("w", ["x"], LEASE_S),
        lambda: stores.claims.finish("x", "w", 1, Completed({})),
        lambda: stores.jobs.cancel(DEV, "x"),
        lambda: stores.claims.wait_for_stops("w", timeout_s=9),
        lambda: stores.claims.release("w", counts_as_retry=True, max_retries=1),
        lambda: stores.claims.sweep(max_retries=1),
        lambda: stores.jobs.counts(DEV),
        lambda: stores.retention.forget(1),
    ]
    for verb in verbs:
        with pytest.raises(StoreUnavailable):
            await verb()
    # One broken table does not break the connection.
    await stores.accounts.add_key(ApiKey("key-1", "one", created_ms=1), "hash-1")


async def test_a_transaction_that_fails_half_way_changes_nothing(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.database.write(lambda transaction: transaction.connection.execute(text("DROP TABLE ledger")))
    with pytest.raises(StoreUnavailable):
        await stores.claims.finish(job.id, "w", claim.token, Completed({}))
    assert await stores.jobs.get(DEV, job.id) == claim.job


async def test_a_postgres_that_cut_its_connections_costs_no_failed_request(postgres_url, postgres_server, clock):
    stores = await open_stores(postgres_url, clock)
    jobs = [sample_job(clock) for _ in range(20)]
    await asyncio.gather(*(stores.jobs.enqueue(job) for job in jobs))
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert "(0 rows)" not in postgres_server.psql(f"SELECT pg_terminate_backend(pid) {others};")
    found = await asyncio.gather(*(stores.jobs.get(DEV, job.id) for job in jobs))
    assert found == jobs
    await stores.close()


async def test_a_busy_sqlite_file_is_waited_for(sqlite_url, clock):
    stores = await open_stores(sqlite_url, clock)
    job = sample_job(clock)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        enqueued = asyncio.create_task(stores.jobs.enqueue(job))
        await asyncio.wait({enqueued}, timeout=0.1)
        assert not enqueued.done()
        # Readers do not wait for a writer.
        assert await stores.accounts.list_keys() == []
        other.execute("COMMIT")
    await enqueued
    assert await stores.jobs.get(DEV, job.id) == job
    await stores.close()


async def test_the_log_of_a_busy_sqlite_file_stays_short(sqlite_url, clock, monkeypatch):
    monkeypatch.setattr(sqlite_module, "_WRITES_PER_CHECKPOINT", 10)
    stores = await open_stores(sqlite_url, clock)

    def log_bytes():
        return Path(sqlite_url.removeprefix("sqlite:///") + "-wal").stat().st_size

    sizes = []
    for _ in range(10):
        for _ in range(10):
            await stores.jobs.enqueue(sample_job(clock))
        # In the writing thread, behind the checkpoint.
        await stores.jobs.purge("elsewhere")
        sizes.append(log_bytes())
    assert sizes[-1] < 3 * sizes[0]
    await stores.close()


async def test_a_full_disk_changes_nothing_and_is_survived(sqlite_url, clock):
    stores = await open_stores(sqlite_url, clock)
    kept, refused = sample_job(clock), sample_job(clock)
    await stores.jobs.enqueue(kept)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands in for a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(StoreUnavailable):
            await stores.jobs.enqueue(refused)
        assert await stores.jobs.get(DEV, kept.id) == kept
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await stores.jobs.counts(DEV)).in_queue == 1
    await stores.jobs.enqueue(refused)
    assert await stores.jobs.get(DEV, refused.id) == refused
    await stores.close()


async def test_a_sqlite_file_is_one_file_after_a_clean_end(sqlite_url, tmp_path, clock):
    stores = await open_stores(sqlite_url, clock)
    await stores.jobs.enqueue(sample_job(clock))
    await stores.close()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["jobs.db"]


async def test_the_queue_is_read_through_its_indexes(sqlite_url, clock):
    stores = await open_stores(sqlite_url, clock)
    await stores.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        oldest = "SELECT seq FROM jobs WHERE status = ? AND endpoint_id = ? ORDER BY created_ms, seq LIMIT 1"
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {oldest}", ("IN_QUEUE", DEV))]
    assert len(plan) == 1
    assert "COVERING INDEX jobs_by_place" in plan[0]


@pytest.mark.parametrize(
    "statement",
    [
        sql.FIND_SWEPT,
        sql.LOCK_SWEPT,
        sql.END_OUTLIVED,
        sql.TIME_OUT_RUNNING,
        sql.TAKE_BACK_EXPIRED,
        sql.TAKE_BACK_FROM,
    ],
)
async def test_a_sweep_reads_no_more_than_the_work_in_flight(sqlite_url, clock, statement):
    stores = await open_stores(sqlite_url, clock)
    await stores.close()
    compiled = statement.compile(dialect=sqlite_dialect.dialect(paramstyle="named"))
    values = {**compiled.params, "now_ms": 1, "retry": 1, "max_retries": 1, "worker": "w"}
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values)]
    assert "SCAN jobs" not in plan


async def test_postgres_claims_without_a_look_at_what_was_claimed_before(postgres_url, clock):
    stores = await open_stores(postgres_url, clock)
    for _ in range(40):
        await stores.jobs.enqueue(sample_job(clock))
    await stores.claims.claim("w", [DEV], 30, LEASE_S)
    # As it plans a claim before it has any statistics.
    waiting = f"SELECT seq FROM jobs WHERE status = 'IN_QUEUE' AND endpoint_id = '{DEV}'"
    oldest = text(f"EXPLAIN {waiting} ORDER BY created_ms, seq LIMIT 1 FOR UPDATE SKIP LOCKED")
    plan = await stores.database.read(lambda connection: connection.scalars(oldest))
    assert "jobs_by_place" in " ".join(plan)
    await stores.close()


async def test_postgres_looks_for_work_without_a_look_at_what_has_ended(postgres_url, clock):
    stores = await open_stores(postgres_url, clock)
    copied = "'x' || n, endpoint_id, status, input, key_id, cost_units, created_ms, queued_ms, claim_token, retries"
    columns = "id, endpoint_id, status, input, key_id, cost_units, created_ms, queued_ms, claim_token, retries"
    fill = f"INSERT INTO jobs ({columns}) SELECT {copied} FROM jobs, generate_series(1, 3000) AS n"
    await stores.jobs.enqueue(sample_job(clock))
    await stores.database.write(lambda transaction: transaction.connection.execute(text(fill)))

    async def plan(statement):
        words = statement.params(endpoints=[DEV], now_ms=clock.now_ms())
        words = words.compile(dialect=postgres_dialect.dialect(), compile_kwargs={"literal_binds": True})
        return " ".join(await stores.database.read(lambda connection: connection.scalars(text(f"EXPLAIN {words}"))))

    # Before there are any statistics.
    in_flight = [await plan(statement) for statement in (RUNNING, COUNT_RUNNING, sql.FIND_SWEPT, sql.LOCK_SWEPT)]
    assert ["jobs_leased" in each and "Seq Scan on jobs" not in each for each in in_flight] == [True] * 4

    def fall_behind(transaction):
        # The statistics are of a time when all jobs waited.
        for statement in ("ANALYZE jobs", "UPDATE jobs SET status = 'COMPLETED'"):
            transaction.connection.execute(text(statement))

    await stores.database.write(fall_behind)
    assert "jobs_by_place" in await plan(IN_ORDER.is_waiting)
    await stores.close()
