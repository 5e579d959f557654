"""A database that falls silent, cuts a connection at the worst moment, or is held by another process."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from typing import Any

import pytest

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.job import Completed, IdempotencyKey, JobStatus, Returned
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.sql import notifications
from tests.contract.samples import DEV, LEASE_S, sample_job
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio

# Five seconds are promised, and the store waits for less; the rest is what a busy machine may be late.
ANSWER_S = 8.0


async def refused_in_time(work: Awaitable[Any]) -> None:
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await work
    assert time.monotonic() - began_s < ANSWER_S


def outage_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "flux_endpoint.core.outage"]


@pytest.fixture
async def far_store(postgres_proxy: Proxy, clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    """A store whose PostgreSQL is behind a network that can break."""
    # As good as the real one, and noticed while the test waits for other things.
    monkeypatch.setattr(notifications, "_BEAT_S", 0.5)
    stores = await open_stores(f"postgresql://postgres@127.0.0.1:{postgres_proxy.port}/postgres", clock, connections=5)
    yield stores
    postgres_proxy.flow()
    await stores.close()


async def test_a_silent_database_refuses_everybody_in_time_and_is_found_again(
    far_store: Stores, postgres_proxy: Proxy, clock, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [sample_job(clock) for _ in range(10)]
    await asyncio.gather(*(far_store.jobs.enqueue(job) for job in jobs))
    postgres_proxy.swallow()
    questions: list[Awaitable[Any]] = [
        *(far_store.jobs.get(DEV, job.id) for job in jobs),
        *(far_store.jobs.enqueue(sample_job(clock)) for _ in range(10)),
        far_store.jobs.wait(DEV, jobs[0].id, timeout_s=90),
        far_store.claims.wait_for_jobs(["elsewhere"], timeout_s=90),
        far_store.accounts.find_key("hash"),
        far_store.jobs.purge(DEV),
        far_store.claims.sweep(max_retries=1),
    ]
    # More than there are connections: those who wait for one are refused in time, too.
    await asyncio.gather(*(refused_in_time(question) for question in questions))
    await refused_in_time(far_store.jobs.get(DEV, jobs[0].id))
    # Who listens has noticed too: sleepers look by themselves now.
    assert far_store.database.signals.recheck_s == notifications.DEAF_RECHECK_S
    assert len(outage_lines(caplog)) == 1
    assert "did not answer for 3.5 s" in outage_lines(caplog)[0]
    postgres_proxy.flow()

    async def answers() -> bool:
        try:
            return await far_store.jobs.get(DEV, jobs[0].id) == jobs[0]
        except StoreUnavailable:
            return False

    began_s = time.monotonic()
    while not await answers():
        assert time.monotonic() - began_s < 30
    assert await asyncio.gather(*(far_store.jobs.get(DEV, job.id) for job in jobs)) == jobs
    await far_store.jobs.set_ttl(DEV, jobs[0].id, 60_000)
    _, end = outage_lines(caplog)
    assert "answers again after" in end


async def test_work_that_was_refused_is_not_done_later(far_store: Stores, postgres_proxy: Proxy, clock) -> None:
    postgres_proxy.swallow()
    jobs = [sample_job(clock) for _ in range(20)]
    await asyncio.gather(*(refused_in_time(far_store.jobs.enqueue(job)) for job in jobs))
    postgres_proxy.cut()
    postgres_proxy.flow()
    assert (await far_store.jobs.counts(DEV)).in_queue == 0


async def test_a_store_is_left_in_time_though_nobody_answers(far_store: Stores, postgres_proxy: Proxy, clock) -> None:
    await asyncio.gather(*(far_store.jobs.enqueue(sample_job(clock)) for _ in range(10)))
    postgres_proxy.swallow()
    hung = [asyncio.create_task(far_store.jobs.get(DEV, "x")) for _ in range(10)]
    await asyncio.sleep(0)
    began_s = time.monotonic()
    far_store.hurry(1)
    await asyncio.gather(*hung, return_exceptions=True)
    assert all(isinstance(task.exception(), StoreUnavailable) for task in hung)
    assert time.monotonic() - began_s < 3
    await far_store.close()
    assert time.monotonic() - began_s < 8


async def test_a_healthy_database_may_take_its_time(far_store: Stores) -> None:
    """Long work is not cut off while the server shows that it lives."""
    from sqlalchemy import text

    def work(transaction: Any) -> int:
        for _ in range(3):
            transaction.connection.execute(text("SELECT pg_sleep(1.6)"))
        return 7

    assert await far_store.database.write(work) == 7
    long = text("SELECT 7 FROM pg_sleep(4.5)")
    with pytest.raises(StoreUnavailable):
        await far_store.database.read(lambda connection: connection.scalar(long))

    def patient(transaction: Any) -> int:
        transaction.connection.execute(text("SELECT 1"))
        return int(transaction.connection.scalar(long))

    assert await far_store.database.write(patient, is_long=True) == 7


def is_commit(data: bytes) -> bool:
    # And no `BEGIN ISOLATION LEVEL READ COMMITTED`.
    return b"COMMIT;" in data


@pytest.mark.parametrize("is_heard", [True, False], ids=["committed", "rolled-back"])
class TestALostAnswerToACommit:
    """Whoever asks again, as each caller of ours does, finds it done once."""

    async def test_enqueueing(self, far_store: Stores, postgres_proxy: Proxy, clock, is_heard: bool) -> None:
        job, once = sample_job(clock), IdempotencyKey("order-7", "hash")
        postgres_proxy.cut_at(is_commit, after_forwarding=is_heard)
        await refused_in_time(far_store.jobs.enqueue(job, once))
        again = sample_job(clock)
        kept = await far_store.jobs.enqueue(again, once)
        assert kept.id == (job.id if is_heard else again.id)
        assert (await far_store.jobs.counts(DEV)).in_queue == 1

    async def test_finishing(self, far_store: Stores, postgres_proxy: Proxy, clock, is_heard: bool) -> None:
        await far_store.accounts.add_key(ApiKey("key-1", "one", created_ms=1), "hash-1")
        job = sample_job(clock)
        await far_store.jobs.enqueue(job)
        (claim,) = await far_store.claims.claim("w", [DEV], 1, LEASE_S)
        postgres_proxy.cut_at(is_commit, after_forwarding=is_heard)
        await refused_in_time(far_store.claims.finish(job.id, "w", claim.token, Completed({"n": 1})))
        done = await far_store.claims.finish(job.id, "w", claim.token, Completed({"n": 1}))
        assert (done.status, done.output) == (JobStatus.COMPLETED, {"n": 1})
        assert [entry.job_id for entry in await far_store.accounts.entries()] == [job.id]

    async def test_claiming(self, far_store: Stores, postgres_proxy: Proxy, clock, is_heard: bool) -> None:
        job = sample_job(clock)
        await far_store.jobs.enqueue(job)
        # One statement, and no COMMIT after it.
        postgres_proxy.cut_at(lambda data: b"the claimer" in data, after_forwarding=is_heard)
        await refused_in_time(far_store.claims.claim("the claimer", [DEV], 1, LEASE_S))
        # Nobody works on it: it comes back with its lease.
        clock.advance(s=LEASE_S)
        await far_store.claims.sweep(max_retries=1)
        (claim,) = await far_store.claims.claim("w", [DEV], 1, LEASE_S)
        assert claim.job.id == job.id

    async def test_giving_back(self, far_store: Stores, postgres_proxy: Proxy, clock, is_heard: bool) -> None:
        job = sample_job(clock)
        await far_store.jobs.enqueue(job)
        (claim,) = await far_store.claims.claim("w", [DEV], 1, LEASE_S)
        postgres_proxy.cut_at(is_commit, after_forwarding=is_heard)
        await refused_in_time(far_store.claims.finish(job.id, "w", claim.token, Returned()))
        clock.advance(s=LEASE_S)
        await far_store.claims.sweep(max_retries=1)
        assert (await far_store.jobs.counts(DEV)).in_queue == 1


async def test_a_sqlite_file_that_another_process_holds_refuses_everybody_in_time(
    sqlite_url: str, clock, caplog: pytest.LogCaptureFixture
) -> None:
    stores = await open_stores(sqlite_url, clock)
    first = sample_job(clock)
    await stores.jobs.enqueue(first)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [refused_in_time(stores.jobs.enqueue(sample_job(clock))) for _ in range(8)]
        # Some come later than others, and wait behind them.
        await asyncio.gather(*writes, refused_in_time(stores.jobs.purge(DEV)))
        assert await stores.jobs.get(DEV, first.id) == first
        await refused_in_time(stores.jobs.cancel(DEV, first.id))
        assert len(outage_lines(caplog)) == 1
        other.execute("ROLLBACK")
    # Nothing that was refused is done now.
    await stores.jobs.cancel(DEV, first.id)
    assert (await stores.jobs.counts(DEV)).in_queue == 0
    assert "answers again" in outage_lines(caplog)[1]
    await stores.close()


async def test_a_sqlite_file_that_another_process_holds_is_left_in_time(sqlite_url: str, clock) -> None:
    stores = await open_stores(sqlite_url, clock)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        stores.hurry(1)
        await asyncio.gather(*(refused_in_time(stores.jobs.purge(DEV)) for _ in range(5)))
        await stores.close()
        assert time.monotonic() - began_s < 8
        other.execute("ROLLBACK")
