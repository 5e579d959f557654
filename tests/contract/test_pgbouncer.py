"""Several gateways behind PgBouncer in transaction mode, which hands each transaction to any process of the server."""

import asyncio

import pytest

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.job import Completed, JobStatus
from flux_endpoint.stores.connect import open_store
from flux_endpoint.stores.jobs.store import SqlStore
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio


async def test_jobs_run_through_it_side_by_side(pgbouncer_url: str, clock) -> None:
    stores = await asyncio.gather(*(open_store(pgbouncer_url, clock, connections=5) for _ in range(3)))
    await stores[0].add_key(ApiKey("key-1", "one", created_ms=1), "hash-1")
    jobs = [sample_job(clock) for _ in range(60)]
    await asyncio.gather(*(stores[number % 3].enqueue(job) for number, job in enumerate(jobs)))

    async def work(store: SqlStore, worker_id: str) -> None:
        while claims := await store.claim(worker_id, [DEV], 2, LEASE_S):
            for claim in claims:
                await store.append_chunk(claim.job.id, worker_id, claim.token, {"n": 1}, None)
                assert await store.renew(worker_id, [claim.job.id], LEASE_S) == frozenset()
                await store.finish(claim.job.id, worker_id, claim.token, Completed({"by": worker_id}))

    await asyncio.gather(*(work(stores[number % 3], f"w{number}") for number in range(9)))
    found = await asyncio.gather(*(stores[number % 3].get(DEV, job.id) for number, job in enumerate(jobs)))
    assert {job.status for job in found} == {JobStatus.COMPLETED}
    assert sorted(entry.job_id for entry in await stores[1].entries()) == sorted(job.id for job in jobs)
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_pooler_is_noticed_and_a_server_itself_is_not_taken_for_one(
    pgbouncer_url: str, postgres_url: str
) -> None:
    for url, is_pooled in ((pgbouncer_url, True), (postgres_url, False)):
        store = await open_store(url, SystemClock())
        database = store._database
        # Only where a pooler stands between, each question costs a transaction.
        assert (database._reader is database._engine) is is_pooled  # type: ignore[attr-defined]
        await store.close()
