"""What is erased is in none of a SQLite database's files any more."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flux_endpoint.core.job import Completed, Failed, IdempotencyKey
from flux_endpoint.core.webhook import Attempt, DeliveryState
from flux_endpoint.stores.connect import open_stores
from tests.contract.samples import DEV, LEASE_S, sample_bucket, sample_job

pytestmark = pytest.mark.anyio

# In the prompt, the credentials, the results and all else that belongs to the client.
MARK = "fuchsia-otter"


def secret(number: int) -> str:
    # Some within a page, some over many; no two of one length.
    return f"{MARK}-{number} " * (1 + number * number % 97 * 10)


def traces_in(folder: Path) -> dict[str, int]:
    found = {path.name: path.read_bytes().count(MARK.encode()) for path in folder.iterdir()}
    return {name: count for name, count in found.items() if count}


async def run_jobs(stores, clock, numbers, retention_ms=60_000):
    """Jobs with every end there is, each sent, drawn and read."""
    for number in numbers:
        job = sample_job(
            clock,
            input={"prompt": secret(number)},
            bucket=sample_bucket(secret(number)),
            webhook=f"https://a.example/x?key={MARK}" if number % 3 == 0 else None,
            retention_ms=retention_ms,
            warnings=(secret(number),),
        )
        await stores.jobs.enqueue(job, IdempotencyKey(f"{MARK}-{number}", "a hash"))
        if number % 5 == 4:
            await stores.jobs.cancel(DEV, job.id)
            continue
        (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
        await stores.claims.append_chunk(
            job.id, "w", claim.token, secret(number), {"step": 1, "preview": secret(number)}
        )
        outcome = Failed("no", {"text": secret(number)}) if number % 4 == 0 else Completed({"text": secret(number)})
        await stores.claims.finish(job.id, "w", claim.token, outcome)


async def deliver_all(stores):
    for delivery in await stores.webhooks.claim_due("gateway", 1_000, 1_000, 1_000):
        await stores.webhooks.report(delivery, Attempt(DeliveryState.DELIVERED))


async def test_nothing_erased_is_left_in_the_files(tmp_path, clock):
    stores = await open_stores(f"sqlite:///{tmp_path}/jobs.db", clock)
    await run_jobs(stores, clock, range(60))
    await deliver_all(stores)
    assert traces_in(tmp_path)
    clock.advance(s=60)
    assert await stores.retention.erase_expired() == 60
    assert traces_in(tmp_path) == {}
    await stores.close()
    assert traces_in(tmp_path) == {}


async def test_jobs_that_are_kept_move_and_leave_nothing_of_others_behind(tmp_path, clock):
    stores = await open_stores(f"sqlite:///{tmp_path}/jobs.db", clock)
    for start in range(0, 120, 20):
        await run_jobs(stores, clock, range(start, start + 20))
        await deliver_all(stores)
        for _ in range(20):
            await stores.jobs.enqueue(sample_job(clock, input={"prompt": "kept " * (start * 7 % 400)}))
        await stores.jobs.purge(DEV)
        clock.advance(s=60)
        assert await stores.retention.erase_expired() == 20
        assert traces_in(tmp_path) == {}
    await stores.close()


async def test_what_a_reader_holds_up_is_done_afterwards(tmp_path, clock):
    stores = await open_stores(f"sqlite:///{tmp_path}/jobs.db", clock)
    await run_jobs(stores, clock, range(5))
    await deliver_all(stores)
    clock.advance(s=60)
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        assert await stores.retention.erase_expired() == 5
        assert traces_in(tmp_path)
    assert await stores.retention.erase_expired() == 0
    assert traces_in(tmp_path) == {}
    await stores.close()
