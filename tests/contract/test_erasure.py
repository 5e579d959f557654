"""What is erased is in none of a SQLite database's files any more."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flux_endpoint.core.job import Completed, Failed, IdempotencyKey
from flux_endpoint.core.webhook import Attempt, DeliveryState
from flux_endpoint.stores.connect import open_store
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio

# In the prompt, the credentials, the results and all else that belongs to the client.
MARK = "fuchsia-otter"


def secret(number: int) -> str:
    # Some within a page, some over many; no two of one length.
    return f"{MARK}-{number} " * (1 + number * number % 97 * 10)


def traces_in(folder: Path) -> dict[str, int]:
    found = {path.name: path.read_bytes().count(MARK.encode()) for path in folder.iterdir()}
    return {name: count for name, count in found.items() if count}


async def run_jobs(store, clock, numbers, retention_ms=60_000):
    """Jobs with every end there is, each sent, drawn and read."""
    for number in numbers:
        job = sample_job(
            clock,
            input={"prompt": secret(number)},
            s3_config={"accessSecret": secret(number)},
            webhook=f"https://a.example/x?key={MARK}" if number % 3 == 0 else None,
            retention_ms=retention_ms,
        )
        await store.enqueue(job, IdempotencyKey(f"{MARK}-{number}", "a hash"))
        if number % 5 == 4:
            await store.cancel(DEV, job.id)
            continue
        (claim,) = await store.claim("w", [DEV], 1, LEASE_S)
        await store.append_chunk(job.id, "w", claim.token, secret(number), {"step": 1, "preview": secret(number)})
        outcome = Failed("no", {"text": secret(number)}) if number % 4 == 0 else Completed({"text": secret(number)})
        await store.finish(job.id, "w", claim.token, outcome)


async def deliver_all(store):
    for delivery in await store.claim_due("gateway", 1_000, 1_000, 1_000):
        await store.report(delivery, Attempt(DeliveryState.DELIVERED))


async def test_nothing_erased_is_left_in_the_files(tmp_path, clock):
    store = await open_store(f"sqlite:///{tmp_path}/jobs.db", clock)
    await run_jobs(store, clock, range(60))
    await deliver_all(store)
    assert traces_in(tmp_path)
    clock.advance(s=60)
    assert await store.erase_expired() == 60
    assert traces_in(tmp_path) == {}
    await store.close()
    assert traces_in(tmp_path) == {}


async def test_jobs_that_are_kept_move_and_leave_nothing_of_others_behind(tmp_path, clock):
    store = await open_store(f"sqlite:///{tmp_path}/jobs.db", clock)
    for start in range(0, 120, 20):
        await run_jobs(store, clock, range(start, start + 20))
        await deliver_all(store)
        for _ in range(20):
            await store.enqueue(sample_job(clock, input={"prompt": "kept " * (start * 7 % 400)}))
        await store.purge(DEV)
        clock.advance(s=60)
        assert await store.erase_expired() == 20
        assert traces_in(tmp_path) == {}
    await store.close()


async def test_what_a_reader_holds_up_is_done_afterwards(tmp_path, clock):
    store = await open_store(f"sqlite:///{tmp_path}/jobs.db", clock)
    await run_jobs(store, clock, range(5))
    await deliver_all(store)
    clock.advance(s=60)
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        assert await store.erase_expired() == 5
        assert traces_in(tmp_path)
    assert await store.erase_expired() == 0
    assert traces_in(tmp_path) == {}
    await store.close()
