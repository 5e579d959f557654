"""The contract of `FleetStore` and of `Leadership`, on every database."""

import asyncio
import time
from dataclasses import replace

import asyncpg
import pytest

from flux_endpoint.core.job import Completed, Policy
from flux_endpoint.stores.connect import open_stores
from flux_endpoint.stores.fleets.leadership import PostgresLeadership
from flux_endpoint.stores.fleets.protocol import Pool, Work
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

LOW = Policy(low_priority=True)


async def test_work_is_counted_by_who_waits_and_who_runs(stores, clock):
    assert await stores.fleets.work([DEV], clock.now_ms(), 10) == Work(0, 0, {})
    begun_ms = clock.now_ms()
    for changes in ({}, {}, {"policy": LOW}, {"endpoint_id": SCHNELL}, {"expires_ms": begun_ms + 10_000}):
        await stores.jobs.enqueue(sample_job(clock, **changes))
    assert await stores.fleets.work([DEV], begun_ms, 10) == Work(3, 0, {})
    assert await stores.fleets.work([DEV], begun_ms + 1, 10) == Work(3, 1, {})
    assert await stores.fleets.work([SCHNELL, DEV], clock.now_ms(), 10) == Work(4, 4, {})
    assert (await stores.fleets.work([SCHNELL, DEV], clock.now_ms(), 2)).waiting == 2
    assert (await stores.fleets.work([], clock.now_ms(), 2)).waiting == 0
    clock.advance(s=11)
    assert (await stores.fleets.work([DEV], clock.now_ms(), 10)).waiting == 2, "whose time is over waits for nobody"
    claims = await stores.claims.claim("w-1", [DEV], 3, LEASE_S)
    (low,) = [claim for claim in claims if claim.job.policy == LOW]
    await stores.claims.claim("w-2", [SCHNELL], 1, LEASE_S)
    assert await stores.fleets.work([DEV], clock.now_ms(), 10) == Work(0, 0, {"w-1": 2, "w-2": 1})
    for claim in claims:
        if claim is not low:
            await stores.claims.finish(claim.job.id, "w-1", claim.token, Completed({}))
    assert (await stores.fleets.work([DEV], clock.now_ms(), 10)).running == {"w-1": 0, "w-2": 1}


async def test_servers_tell_of_their_workers_and_are_told_how_many_to_have(stores, open_another):
    other = await open_another()
    here, there = Pool("n2", 0, 4, kept=2, busy=1, running=3), Pool("n1", 1, 1)
    assert await stores.fleets.note_pool(here, now_ms=100) is None
    assert await other.fleets.note_pool(there, now_ms=200) is None
    assert list(await other.fleets.pools(100)) == [there, here]
    assert list(await other.fleets.pools(101)) == [there]
    await other.fleets.share_out({"n1": 1, "n2": 3, "nobody": 7}, forget_before_ms=0)
    smaller = replace(here, max_workers=2, kept=0, busy=0, running=0)
    assert await stores.fleets.note_pool(smaller, now_ms=300) == 3
    assert await other.fleets.note_pool(there, now_ms=300) == 1
    assert list(await stores.fleets.pools(300)) == [there, smaller]
    await other.fleets.share_out({"n1": 0}, forget_before_ms=301)
    assert list(await stores.fleets.pools(0)) == []


async def test_a_file_has_one_server_which_decides(sqlite_url, clock):
    stores = await open_stores(sqlite_url, clock)
    leadership = stores.database.leadership()
    assert await leadership.is_mine()
    await leadership.close()
    await stores.close()


async def test_one_server_decides_and_another_takes_over(postgres_url, clock):
    first, second = [await open_stores(postgres_url, clock) for _ in range(2)]
    mine, theirs = first.database.leadership(), second.database.leadership()
    for _ in range(2):
        assert await mine.is_mine()
        assert not await theirs.is_mine()
    await mine.close()
    await mine.close()
    assert await theirs.is_mine()
    assert not await mine.is_mine(), "it may ask again"
    # Killed from outside, as by a restart of PostgreSQL or an administrator.
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    await until_mine(mine)
    assert not await theirs.is_mine()
    await admin.close()
    for leadership in (mine, theirs):
        await leadership.close()
    for stores in (first, second):
        await stores.close()


async def until_mine(leadership):
    async with asyncio.timeout(20):
        while True:
            if await leadership.is_mine():
                return
            await asyncio.sleep(0)


async def test_whoever_cannot_ask_does_not_decide(postgres_proxy):
    url = f"postgresql://postgres@127.0.0.1:{postgres_proxy.port}/postgres"

    async def connect():
        return await asyncpg.connect(url)

    leadership = PostgresLeadership(connect, is_pooled=False)
    assert await leadership.is_mine()
    postgres_proxy.swallow()
    began_s = time.monotonic()
    assert not await leadership.is_mine()
    assert time.monotonic() - began_s < 10
    postgres_proxy.flow()
    postgres_proxy.cut()
    await until_mine(leadership)
    await leadership.close()


async def test_behind_a_pooler_every_server_decides(pgbouncer_url, clock):
    gateways = [await open_stores(pgbouncer_url, clock) for _ in range(2)]
    leaderships = [stores.database.leadership() for stores in gateways]
    assert [await leadership.is_mine() for leadership in leaderships] == [True, True]
    for stores in gateways:
        await stores.close()
