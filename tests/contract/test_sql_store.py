"""What only the SQL store promises: migrations, URLs, errors, wake-ups, a shared SQLite file."""

import asyncio
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.dialects import sqlite as sqlite_dialect

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import SettingsError, StoreUnavailable
from flux_endpoint.core.job import Completed
from flux_endpoint.stores.accounts.protocol import Ledger
from flux_endpoint.stores.connect import open_store
from flux_endpoint.stores.jobs import statements as sql
from flux_endpoint.stores.jobs.protocol import JobStore
from flux_endpoint.stores.jobs.store import SqlStore
from flux_endpoint.stores.sql import sqlite as sqlite_module
from flux_endpoint.stores.sql.schema import metadata
from flux_endpoint.stores.sql.signals import Channel, Deadline, Signals
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio


def test_one_object_implements_both_protocols():
    def takes_both(store: SqlStore) -> tuple[JobStore, Ledger]:
        return store, store

    assert takes_both


def indexes_of(connection):
    """Indexes with their conditions, which Alembic does not compare, as the database itself spells them."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    return [tuple(row) for row in connection.execute(text(query)) if "alembic" not in row[0]]


async def test_migrations_make_exactly_the_tables_of_the_schema(store):
    def work(transaction):
        connection = transaction.connection
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, metadata)
        migrated = indexes_of(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return differences, migrated, indexes_of(connection)

    differences, migrated, created = await store._database.write(work)
    assert differences == []
    assert migrated == created


async def test_opening_again_migrates_nothing_and_keeps_everything(store, open_another, clock):
    job = sample_job(clock)
    await store.enqueue(job)
    for _ in range(2):
        assert await (await open_another()).get(DEV, job.id) == job


def test_processes_that_start_together_on_an_empty_database_all_come_up(database_url):
    script = (
        "import asyncio, sys\n"
        "from flux_endpoint.core.clock import SystemClock\n"
        "from flux_endpoint.stores.connect import open_store\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1], SystemClock())\n"
        "    assert await store.list_keys() == []\n"
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
        await open_store(url, SystemClock())
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
    store = await open_store(f"sqlite:///{path}", clock)
    await store.enqueue(sample_job(clock))
    assert modes_in(path.parent) == {"made": 0o700, "jobs.db": 0o600, "jobs.db-shm": 0o600, "jobs.db-wal": 0o600}
    await store.close()


async def test_a_relative_sqlite_url_is_in_the_working_folder(tmp_path, monkeypatch, clock):
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///data/jobs.db", clock)
    await store.close()
    assert (tmp_path / "data" / "jobs.db").exists()


async def test_postgres_without_its_driver_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "flux_endpoint.stores.sql.postgres", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'flux-endpoint\[postgres\]'"):
        await open_store("postgresql://host/name", SystemClock())


async def test_a_postgres_that_cannot_be_reached_is_unavailable(unused_port):
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(f"postgresql://user:secret@127.0.0.1:{unused_port}/name", SystemClock())
    assert "secret" not in str(caught.value)


async def test_a_postgres_database_that_does_not_exist_is_unavailable(postgres_server):
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await open_store(postgres_server.get_uri("nowhere"), SystemClock())


async def test_libpq_options_in_the_url_are_understood(postgres_url, clock):
    store = await open_store(f"{postgres_url}&sslmode=prefer&application_name=flux", clock)
    await store.close()


@pytest.mark.parametrize("content", [None, b"this is no database, and long enough to be read as a header" * 50])
async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path, content):
    path = tmp_path / "jobs.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        await open_store(f"sqlite:///{path}", SystemClock())


async def test_a_sqlite_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await open_store(f"sqlite:///{tmp_path}/file/jobs.db", SystemClock())


async def test_errors_of_the_database_are_translated(store, clock):
    await store._database.write(lambda transaction: transaction.connection.execute(text("DROP TABLE jobs")))
    verbs = [
        lambda: store.enqueue(sample_job(clock)),
        lambda: store.get(DEV, "x"),
        lambda: store.wait(DEV, "x", timeout_s=9),
        lambda: store.claim("w", [DEV], 1, LEASE_S),
        lambda: store.wait_for_work([DEV], timeout_s=9),
        lambda: store.renew("w", ["x"], LEASE_S),
        lambda: store.finish("x", "w", 1, Completed({})),
        lambda: store.cancel(DEV, "x"),
        lambda: store.wait_for_stops("w", timeout_s=9),
        lambda: store.release("w", counts_as_retry=True, max_retries=1),
        lambda: store.sweep(max_retries=1),
        lambda: store.counts(DEV),
        lambda: store.forget(1),
    ]
    for verb in verbs:
        with pytest.raises(StoreUnavailable):
            await verb()
    # One broken table does not break the connection.
    await store.add_key(ApiKey("key-1", "one", created_ms=1), "hash-1")


async def test_a_transaction_that_fails_half_way_changes_nothing(store, open_another, clock):
    job = sample_job(clock)
    await store.enqueue(job)
    (claim,) = await store.claim("w", [DEV], 1, LEASE_S)
    await store._database.write(lambda transaction: transaction.connection.execute(text("DROP TABLE ledger")))
    with pytest.raises(StoreUnavailable):
        await store.finish(job.id, "w", claim.token, Completed({}))
    assert await store.get(DEV, job.id) == claim.job


async def test_a_postgres_that_cut_its_connections_costs_no_failed_request(postgres_url, postgres_server, clock):
    store = await open_store(postgres_url, clock)
    jobs = [sample_job(clock) for _ in range(20)]
    await asyncio.gather(*(store.enqueue(job) for job in jobs))
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert "(0 rows)" not in postgres_server.psql(f"SELECT pg_terminate_backend(pid) {others};")
    found = await asyncio.gather(*(store.get(DEV, job.id) for job in jobs))
    assert found == jobs
    await store.close()


async def test_a_busy_sqlite_file_is_waited_for(sqlite_url, clock):
    store = await open_store(sqlite_url, clock)
    job = sample_job(clock)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        enqueued = asyncio.create_task(store.enqueue(job))
        await asyncio.wait({enqueued}, timeout=0.1)
        assert not enqueued.done()
        # Readers do not wait for a writer.
        assert await store.list_keys() == []
        other.execute("COMMIT")
    await enqueued
    assert await store.get(DEV, job.id) == job
    await store.close()


async def test_the_log_of_a_busy_sqlite_file_stays_short(sqlite_url, clock, monkeypatch):
    monkeypatch.setattr(sqlite_module, "_WRITES_PER_CHECKPOINT", 10)
    store = await open_store(sqlite_url, clock)

    def log_bytes():
        return Path(sqlite_url.removeprefix("sqlite:///") + "-wal").stat().st_size

    sizes = []
    for _ in range(10):
        for _ in range(10):
            await store.enqueue(sample_job(clock))
        # In the writing thread, behind the checkpoint.
        await store.purge("elsewhere")
        sizes.append(log_bytes())
    assert sizes[-1] < 3 * sizes[0]
    await store.close()


async def test_a_full_disk_changes_nothing_and_is_survived(sqlite_url, clock):
    store = await open_store(sqlite_url, clock)
    kept, refused = sample_job(clock), sample_job(clock)
    await store.enqueue(kept)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands in for a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(StoreUnavailable):
            await store.enqueue(refused)
        assert await store.get(DEV, kept.id) == kept
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await store.counts(DEV)).in_queue == 1
    await store.enqueue(refused)
    assert await store.get(DEV, refused.id) == refused
    await store.close()


async def test_a_sqlite_file_is_one_file_after_a_clean_end(sqlite_url, tmp_path, clock):
    store = await open_store(sqlite_url, clock)
    await store.enqueue(sample_job(clock))
    await store.close()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["jobs.db"]


async def test_the_queue_is_read_through_its_indexes(sqlite_url, clock):
    store = await open_store(sqlite_url, clock)
    await store.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        oldest = "SELECT seq FROM jobs WHERE status = ? AND endpoint_id = ? ORDER BY created_ms, seq LIMIT 1"
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {oldest}", ("IN_QUEUE", DEV))]
    assert len(plan) == 1
    assert "COVERING INDEX jobs_by_place" in plan[0]


@pytest.mark.parametrize("statement", [sql.LOCK_SWEPT, sql.END_OUTLIVED, sql.TIME_OUT_RUNNING, sql.TAKE_BACK_EXPIRED])
async def test_a_sweep_reads_no_more_than_the_work_in_flight(sqlite_url, clock, statement):
    store = await open_store(sqlite_url, clock)
    await store.close()
    compiled = statement.compile(dialect=sqlite_dialect.dialect(paramstyle="named"))
    values = {**compiled.params, "now_ms": 1, "retry": 1, "max_retries": 1}
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values)]
    assert "SCAN jobs" not in plan


async def test_channels_vanish_with_their_last_listener(store, clock):
    job = sample_job(clock)
    await store.enqueue(job)
    waiters = [asyncio.create_task(store.wait(DEV, job.id, timeout_s=60)) for _ in range(3)]
    waiters.append(asyncio.create_task(store.wait_for_stops("w", timeout_s=0.01)))
    waiters.append(asyncio.create_task(store.wait_for_work(["elsewhere"], timeout_s=60)))
    await waiters[3]
    # One channel for the three who wait for the job, one for who waits for work; they listen before they look.
    assert len(store._signals) == 2
    waiters[-1].cancel()
    await store.cancel(DEV, job.id)
    await asyncio.gather(*waiters, return_exceptions=True)
    assert len(store._signals) == 0


async def test_a_signal_between_looking_and_sleeping_is_heard():
    signals, channel = Signals(), Channel("end of job", "x")
    with signals.listen([channel]) as listener:
        signals.fire({channel: None})
        async with asyncio.timeout(4):
            await listener.sleep(60)
        # Heard once: the next sleep lasts.
        signals.fire({Channel("end of job", "y"): None})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await listener.sleep(60)
    signals.fire({channel: None})


async def test_every_listener_hears_and_one_listener_may_hear_many_channels():
    signals = Signals()
    left, right = Channel("work", "left"), Channel("work", "right")
    with signals.listen([left, right, left]) as both, signals.listen([left]) as one:
        signals.fire({left: None})
        async with asyncio.timeout(4):
            await asyncio.gather(both.sleep(60), one.sleep(60))
        signals.fire_all()
        async with asyncio.timeout(4):
            await asyncio.gather(both.sleep(60), one.sleep(60))
    assert len(signals) == 0


async def test_a_deadline_sleeps_in_slices_and_looks_once_more_at_the_end(monkeypatch):
    now_s, slept_s = 100.0, []

    class Listening:
        is_dismissed = False

        async def sleep(self, longest_s):
            nonlocal now_s
            slept_s.append(longest_s)
            now_s += longest_s

    # A clock of its own: on a loaded machine every sleep takes longer than it should.
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    deadline = Deadline(timeout_s=5, recheck_s=2)
    while await deadline.sleep(Listening()):
        pass
    assert slept_s == [2, 2, 1]


async def test_a_deadline_waits_for_a_signal_no_longer_than_a_slice():
    deadline = Deadline(timeout_s=60, recheck_s=0.02)
    with Signals().listen([]) as listener:
        async with asyncio.timeout(4):
            assert await deadline.sleep(listener)


async def test_draining_answers_whoever_waits_with_what_there_is(store, clock):
    job = sample_job(clock)
    await store.enqueue(job)
    waiters = [
        asyncio.create_task(store.wait(DEV, job.id, timeout_s=60)),
        asyncio.create_task(store.take_chunks(DEV, job.id, "key", timeout_s=60)),
        asyncio.create_task(store.chunks_after(DEV, job.id, 0, timeout_s=60)),
        asyncio.create_task(store.wait_for_work(["elsewhere"], timeout_s=60)),
        asyncio.create_task(store.wait_for_stops("w", timeout_s=60)),
    ]
    await asyncio.sleep(0)
    store.drain()
    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiters) == [job, (job, []), (job, [], 0), False, []]
        # Nobody falls asleep any more; the rest works on.
        assert await store.wait(DEV, job.id, timeout_s=60) == job
    assert len(await store.claim("w", [DEV], 1, LEASE_S)) == 1
