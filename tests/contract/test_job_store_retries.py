"""The contract of `JobStore.retry` and `JobStore.purge`, on every database."""

import asyncio
from decimal import Decimal

import pytest

from flux_endpoint.core.errors import Conflict, LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Policy
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio


async def failed_job(store, clock):
    job = sample_job(clock)
    await store.enqueue(job)
    (claim,) = await store.claim("worker-a", [DEV], 1, LEASE_S)
    await store.finish(job.id, "worker-a", claim.token, Failed("no memory"))
    return job, claim


async def test_a_retried_job_is_as_new_but_for_its_claims(store, clock):
    job, _ = await failed_job(store, clock)
    clock.advance(s=5)
    retried = await store.retry(DEV, job.id)
    assert retried == await store.get(DEV, job.id)
    assert (retried.status, retried.queued_ms, retried.created_ms) == (
        JobStatus.IN_QUEUE,
        clock.now_ms(),
        job.created_ms,
    )
    assert (retried.error, retried.output, retried.finished_ms, retried.retries) == (None, None, None, 0)
    (claim,) = await store.claim("worker-b", [DEV], 1, LEASE_S)
    assert (claim.job.id, claim.token) == (job.id, 2)
    done = await store.finish(job.id, "worker-b", claim.token, Completed({"image_url": "x"}))
    assert done.status is JobStatus.COMPLETED
    assert [entry.job_id for entry in await store.entries()] == [job.id]


async def test_the_worker_of_the_failed_run_cannot_report_on_the_retry(store, clock):
    job, old = await failed_job(store, clock)
    await store.retry(DEV, job.id)
    await store.claim("worker-b", [DEV], 1, LEASE_S)
    with pytest.raises(LeaseLost):
        await store.finish(job.id, "worker-a", old.token, Completed({"image_url": "late"}))


async def test_a_retry_wakes_the_workers(store, clock):
    job, _ = await failed_job(store, clock)
    waiting = asyncio.create_task(store.wait_for_work([DEV], 30))
    await asyncio.sleep(0)
    await store.retry(DEV, job.id)
    assert await waiting


async def test_only_a_failed_job_that_ran_can_be_retried(store, clock):
    waiting = sample_job(clock)
    refused = sample_job(clock, status=JobStatus.FAILED, error="no", finished_ms=clock.now_ms(), cost_usd=Decimal(0))
    for job in (waiting, refused):
        await store.enqueue(job)
        with pytest.raises(Conflict, match=job.id):
            await store.retry(DEV, job.id)
        assert await store.get(DEV, job.id) == job
    with pytest.raises(UnknownJob):
        await store.retry(SCHNELL, waiting.id)


async def test_a_retry_lasts_for_as_long_as_the_client_has_asked_since(store, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=50_000), retention_ms=600_000, expires_ms=clock.now_ms() + 50_000)
    await store.enqueue(job)
    await store.claim("worker-a", [DEV], 1, LEASE_S)
    await store.finish(job.id, "worker-a", 1, Failed("no memory"))
    longer = await store.set_ttl(DEV, job.id, 300_000)
    clock.advance(s=60)
    retried = await store.retry(DEV, job.id)
    assert retried.expires_ms == longer.expires_ms
    assert await store.get(DEV, job.id) == retried
    (claim,) = await store.claim("worker-b", [DEV], 1, LEASE_S)
    done = await store.finish(job.id, "worker-b", claim.token, Completed({"image_url": "x"}))
    assert done.expires_ms == longer.expires_ms


async def test_two_retries_at_once_queue_the_job_once(store, clock):
    job, _ = await failed_job(store, clock)
    results = await asyncio.gather(*(store.retry(DEV, job.id) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["Job"]
    assert len(await store.claim("worker-b", [DEV], 4, LEASE_S)) == 1


async def test_a_purge_cancels_what_waits_on_one_endpoint(store, clock):
    running, *waiting = [sample_job(clock) for _ in range(4)]
    elsewhere = sample_job(clock, endpoint_id=SCHNELL)
    for job in (running, *waiting, elsewhere):
        await store.enqueue(job)
    await store.claim("worker-a", [DEV], 1, LEASE_S)
    ends = [asyncio.create_task(store.wait(DEV, job.id, 30)) for job in waiting]
    await asyncio.sleep(0)
    assert await store.purge(DEV) == 3
    assert {(await end).status for end in ends} == {JobStatus.CANCELLED}
    assert (await store.get(DEV, running.id)).status is JobStatus.IN_PROGRESS
    assert (await store.get(SCHNELL, elsewhere.id)).status is JobStatus.IN_QUEUE
    assert await store.purge(DEV) == 0
    assert await store.wait_for_stops("worker-a", 0) == []
