"""Several gateways behind PgBouncer in transaction mode, which hands each transaction to any process of the server."""

import asyncio

import pytest

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.job import Completed, JobStatus
from flux_endpoint.stores.connect import Stores, open_stores
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio


async def test_jobs_run_through_it_side_by_side(pgbouncer_url: str, clock) -> None:
    gateways = await asyncio.gather(*(open_stores(pgbouncer_url, clock, connections=5) for _ in range(3)))
    await gateways[0].accounts.add_key(ApiKey("key-1", "one", created_ms=1), "hash-1")
    jobs = [sample_job(clock) for _ in range(60)]
    await asyncio.gather(*(gateways[number % 3].jobs.enqueue(job) for number, job in enumerate(jobs)))

    async def work(stores: Stores, worker_id: str) -> None:
        while claims := await stores.claims.claim(worker_id, [DEV], 2, LEASE_S):
            for claim in claims:
                await stores.claims.append_chunk(claim.job.id, worker_id, claim.token, {"n": 1}, None)
                assert await stores.claims.renew(worker_id, [claim.job.id], LEASE_S) == frozenset()
                await stores.claims.finish(claim.job.id, worker_id, claim.token, Completed({"by": worker_id}))

    await asyncio.gather(*(work(gateways[number % 3], f"w{number}") for number in range(9)))
    found = await asyncio.gather(*(gateways[number % 3].jobs.get(DEV, job.id) for number, job in enumerate(jobs)))
    assert {job.status for job in found} == {JobStatus.COMPLETED}
    assert sorted(entry.job_id for entry in await gateways[1].accounts.entries()) == sorted(job.id for job in jobs)
    await asyncio.gather(*(stores.close() for stores in gateways))


async def test_a_pooler_is_noticed_and_a_server_itself_is_not_taken_for_one(
    pgbouncer_url: str, postgres_url: str
) -> None:
    for url, is_pooled in ((pgbouncer_url, True), (postgres_url, False)):
        stores = await open_stores(url, SystemClock())
        database = stores.database
        # Only where a pooler stands between, each question costs a transaction.
        assert database._pool.is_pooled is is_pooled
        await stores.close()
