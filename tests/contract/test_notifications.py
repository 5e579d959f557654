"""What one gateway commits to PostgreSQL wakes those who sleep in another, and not only after a while."""

import asyncio
import math
from functools import partial

import asyncpg
import pytest

from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.sql import notifications
from tests.contract.samples import DEV, LEASE_S, NEVER_S, sample_job, until

pytestmark = pytest.mark.anyio


async def hear_only(stores: Stores) -> None:
    """Wait until the notifications of others come; from then on nothing else wakes a sleeper."""
    await until(stores, lambda recheck_s: recheck_s > 1)
    stores.database.signals.recheck_s = NEVER_S


async def assert_woken(here: Stores, there: Stores, clock, endpoint_id: str) -> None:
    job = sample_job(clock, endpoint_id=endpoint_id)
    working = asyncio.create_task(there.claims.wait_for_jobs([endpoint_id], timeout_s=60))
    # By now it has looked and sleeps.
    await there.jobs.counts(endpoint_id)
    await here.jobs.enqueue(job)
    async with asyncio.timeout(20):
        assert await working
        (claim,) = await there.claims.claim("w", [endpoint_id], 1, LEASE_S)
        stopping = asyncio.create_task(there.claims.wait_for_stops("w", timeout_s=60))
        waiting = asyncio.create_task(there.jobs.wait(endpoint_id, job.id, timeout_s=60))
        await there.jobs.counts(endpoint_id)
        await here.jobs.cancel(endpoint_id, job.id)
        assert (await waiting).status is JobStatus.CANCELLED
        assert await stopping == [claim.job.id]


async def test_whoever_sleeps_is_woken_by_another_gateway_also_after_a_lost_connection(
    postgres_url, postgres_server, clock
):
    here, there = [await open_stores(postgres_url, clock) for _ in range(2)]
    await hear_only(there)
    await assert_woken(here, there, clock, "before")
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    postgres_server.psql(f"SELECT pg_terminate_backend(pid) {others};")
    await until(there, lambda recheck_s: recheck_s < NEVER_S)
    await hear_only(there)
    await assert_woken(here, there, clock, "after")
    await here.close()
    await there.close()


async def test_what_was_being_told_when_the_connection_broke_is_told_on_the_next(postgres_url, clock, monkeypatch):
    broken: list[str] = []
    execute = asyncpg.Connection.execute

    async def break_once(connection, query, *told, **options):
        if query == notifications._NOTIFY and not broken and any("|jobs on endpoint|" in each for each in told[0]):
            broken.extend(told[0])
            connection.terminate()
            raise ConnectionResetError
        return await execute(connection, query, *told, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", break_once)
    here, there = [await open_stores(postgres_url, clock) for _ in range(2)]
    await hear_only(there)
    await assert_woken(here, there, clock, "broken")
    assert broken
    await here.close()
    await there.close()


async def test_whoever_is_alone_tells_nobody_until_another_gateway_comes(postgres_url, clock):
    heard: asyncio.Queue[str] = asyncio.Queue()
    onlooker = await asyncpg.connect(postgres_url)
    await onlooker.add_listener("flux_endpoint", lambda *message: heard.put_nowait(message[-1]))
    here = await open_stores(postgres_url, clock)
    await hear_only(here)
    # It has heard nobody for long.
    here.database._notifications._others_until_s = -math.inf
    await here.jobs.enqueue(sample_job(clock))
    there = await open_stores(postgres_url, clock)
    await hear_only(there)
    await assert_woken(here, there, clock, "told")
    kinds = [message.split("|")[1:] for message in iter(partial(next_of, heard), None)]
    assert ["jobs on endpoint", "told"] in kinds
    assert ["jobs on endpoint", DEV] not in kinds
    await onlooker.close()
    await here.close()
    await there.close()


async def test_a_gateway_that_comes_knows_at_once_whether_it_is_alone(postgres_url, clock, monkeypatch):
    # Nobody beats because it is time to.
    monkeypatch.setattr(notifications, "_BEAT_S", NEVER_S)
    monkeypatch.setattr(notifications, "_ANSWERED_S", 0.5)
    gateways = []
    for _ in range(3):
        gateways.append(stores := await open_stores(postgres_url, clock))
        await hear_only(stores)
        # Until then nobody thinks itself alone; whose answer comes late is heard all the same.
        await asyncio.sleep(1)
        async with asyncio.timeout(20):
            while True:
                if stores.database._notifications._is_alone is (len(gateways) == 1):
                    break
                await asyncio.sleep(0)
    await assert_woken(gateways[2], gateways[0], clock, "third")
    for stores in gateways:
        await stores.close()


def next_of(queue: "asyncio.Queue[str]") -> str | None:
    return None if queue.empty() else queue.get_nowait()


async def test_behind_a_pooler_sleepers_look_by_themselves(pgbouncer_url, clock):
    stores = await open_stores(pgbouncer_url, clock)
    assert stores.database.signals.recheck_s < 1
    await stores.close()


async def test_names_of_any_length_and_letters_can_be_told(postgres_url, clock):
    stores = await open_stores(postgres_url, clock)
    await assert_woken(stores, stores, clock, "a|b " + "\U0001f98a" * 3_000)
    await stores.close()
