"""The contract of `JobStore.retry` and `JobStore.purge`, on every database."""

import asyncio
from decimal import Decimal

import pytest

from flux_endpoint.core.errors import Conflict, LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Policy
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio


async def failed_job(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.claims.finish(job.id, "worker-a", claim.token, Failed("no memory"))
    return job, claim


async def test_a_retried_job_is_as_new_but_for_its_claims(stores, clock):
    job, _ = await failed_job(stores, clock)
    clock.advance(s=5)
    retried = await stores.jobs.retry(DEV, job.id)
    assert retried == await stores.jobs.get(DEV, job.id)
    assert (retried.status, retried.queued_ms, retried.created_ms) == (
        JobStatus.IN_QUEUE,
        clock.now_ms(),
        job.created_ms,
    )
    assert (retried.error, retried.output, retried.finished_ms, retried.retries) == (None, None, None, 0)
    (claim,) = await stores.claims.claim("worker-b", [DEV], 1, LEASE_S)
    assert (claim.job.id, claim.token) == (job.id, 2)
    done = await stores.claims.finish(job.id, "worker-b", claim.token, Completed({"image_url": "x"}))
    assert done.status is JobStatus.COMPLETED
    assert [entry.job_id for entry in await stores.accounts.entries()] == [job.id]


async def test_the_worker_of_the_failed_run_cannot_report_on_the_retry(stores, clock):
    job, old = await failed_job(stores, clock)
    await stores.jobs.retry(DEV, job.id)
    await stores.claims.claim("worker-b", [DEV], 1, LEASE_S)
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", old.token, Completed({"image_url": "late"}))


async def test_a_retry_wakes_the_workers(stores, clock):
    job, _ = await failed_job(stores, clock)
    waiting = asyncio.create_task(stores.claims.wait_for_jobs([DEV], 30))
    await asyncio.sleep(0)
    await stores.jobs.retry(DEV, job.id)
    assert await waiting


async def test_only_a_failed_job_that_ran_can_be_retried(stores, clock):
    waiting = sample_job(clock)
    refused = sample_job(clock, status=JobStatus.FAILED, error="no", finished_ms=clock.now_ms(), cost_usd=Decimal(0))
    for job in (waiting, refused):
        await stores.jobs.enqueue(job)
        with pytest.raises(Conflict, match=job.id):
            await stores.jobs.retry(DEV, job.id)
        assert await stores.jobs.get(DEV, job.id) == job
    with pytest.raises(UnknownJob):
        await stores.jobs.retry(SCHNELL, waiting.id)


async def test_a_retry_lasts_for_as_long_as_the_client_has_asked_since(stores, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=50_000), retention_ms=600_000, expires_ms=clock.now_ms() + 50_000)
    await stores.jobs.enqueue(job)
    await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.claims.finish(job.id, "worker-a", 1, Failed("no memory"))
    longer = await stores.jobs.set_ttl(DEV, job.id, 300_000)
    clock.advance(s=60)
    retried = await stores.jobs.retry(DEV, job.id)
    assert retried.expires_ms == longer.expires_ms
    assert await stores.jobs.get(DEV, job.id) == retried
    (claim,) = await stores.claims.claim("worker-b", [DEV], 1, LEASE_S)
    done = await stores.claims.finish(job.id, "worker-b", claim.token, Completed({"image_url": "x"}))
    assert done.expires_ms == longer.expires_ms


async def test_two_retries_at_once_queue_the_job_once(stores, clock):
    job, _ = await failed_job(stores, clock)
    results = await asyncio.gather(*(stores.jobs.retry(DEV, job.id) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["Job"]
    assert len(await stores.claims.claim("worker-b", [DEV], 4, LEASE_S)) == 1


async def test_a_purge_cancels_what_waits_on_one_endpoint(stores, clock):
    running, *waiting = [sample_job(clock) for _ in range(4)]
    elsewhere = sample_job(clock, endpoint_id=SCHNELL)
    for job in (running, *waiting, elsewhere):
        await stores.jobs.enqueue(job)
    await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    ends = [asyncio.create_task(stores.jobs.wait(DEV, job.id, 30)) for job in waiting]
    await asyncio.sleep(0)
    assert await stores.jobs.purge(DEV) == 3
    assert {(await end).status for end in ends} == {JobStatus.CANCELLED}
    assert (await stores.jobs.get(DEV, running.id)).status is JobStatus.IN_PROGRESS
    assert (await stores.jobs.get(SCHNELL, elsewhere.id)).status is JobStatus.IN_QUEUE
    assert await stores.jobs.purge(DEV) == 0
    assert await stores.claims.wait_for_stops("worker-a", 0) == []
