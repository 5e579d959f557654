"""The contract of `JobStore` and `ClaimStore` for whoever waits: workers for jobs, clients for the end of one."""

import asyncio

import pytest

from flux_endpoint.core.job import Completed, Failed, Returned
from tests.contract.samples import DEV, LEASE_S, OUTPUT, SCHNELL, claim_one, enqueue_some, sample_job

pytestmark = pytest.mark.anyio


async def test_waiting_for_work_ends_when_patience_does(stores, clock):
    await enqueue_some(stores, clock, 1, endpoint_id=SCHNELL)
    assert await stores.claims.wait_for_jobs([DEV], timeout_s=0) is False
    assert await stores.claims.wait_for_jobs([DEV], timeout_s=0.05) is False


async def test_work_that_waits_already_is_found_at_once(stores, clock):
    await enqueue_some(stores, clock, 1)
    assert await stores.claims.wait_for_jobs([SCHNELL, DEV], timeout_s=60) is True


@pytest.mark.parametrize("yields", range(8))
async def test_no_wake_up_is_lost_however_enqueue_and_wait_interleave(stores, clock, yields):
    async with asyncio.timeout(20):
        waiters = [asyncio.create_task(stores.claims.wait_for_jobs([DEV, SCHNELL], timeout_s=60)) for _ in range(5)]
        for _ in range(yields):
            await asyncio.sleep(0)
        await enqueue_some(stores, clock, 1)
        assert await asyncio.gather(*waiters) == [True] * 5


async def test_work_enqueued_through_another_store_is_found(stores, open_another, clock):
    other = await open_another()
    # By a look, which whoever sleeps takes now and then; a call that ends meanwhile is followed by one that begins so.
    stores.database.signals.recheck_s = 0.05
    waiter = asyncio.create_task(stores.claims.wait_for_jobs([DEV], timeout_s=60))
    await asyncio.sleep(0)
    await enqueue_some(other, clock, 1)
    async with asyncio.timeout(20):
        assert await waiter is True


async def test_a_job_that_comes_back_wakes_the_workers(stores, clock):
    await enqueue_some(stores, clock, 1)

    async def give_back(claim):
        await stores.claims.finish(claim.job.id, claim.worker_id, claim.token, Returned())

    async def lose(claim):
        await stores.claims.release(claim.worker_id, counts_as_retry=False, max_retries=1)

    async def expire(_):
        clock.advance(s=LEASE_S + 1)
        await stores.claims.sweep(max_retries=9)

    for come_back in (give_back, lose, expire):
        claim = await claim_one(stores)
        async with asyncio.timeout(20):
            waiter = asyncio.create_task(stores.claims.wait_for_jobs([DEV], timeout_s=60))
            await asyncio.wait({waiter}, timeout=0.02)
            assert not waiter.done()
            await come_back(claim)
            assert await waiter is True


async def test_an_end_between_submission_and_wait_is_not_missed(stores, clock):
    job = sample_job(clock)
    with stores.jobs.ending(job.id, timeout_s=60) as end_of:
        await stores.jobs.enqueue(job)
        claim = await claim_one(stores)
        done = await stores.claims.finish(job.id, "worker-a", claim.token, Completed({"x": 1}))
        assert await end_of(job) == done
        assert await end_of(done) == done
    with stores.jobs.ending("another", timeout_s=0) as end_of:
        assert await end_of(job) == job


async def test_waiting_for_a_job_ends_when_patience_does(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    assert await stores.jobs.wait(DEV, job.id, timeout_s=0) == job
    assert await stores.jobs.wait(DEV, job.id, timeout_s=0.05) == job


@pytest.mark.parametrize("yields", [0, 1, 2, 5])
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "lost too often"])
async def test_whoever_waits_for_a_job_sees_its_end(stores, clock, end, yields):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    async with asyncio.timeout(20):
        waiters = [asyncio.create_task(stores.jobs.wait(DEV, job.id, timeout_s=60)) for _ in range(3)]
        for _ in range(yields):
            await asyncio.sleep(0)
        match end:
            case "completed":
                await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
            case "failed":
                await stores.claims.finish(job.id, "worker-a", claim.token, Failed("x"))
            case "cancelled":
                await stores.jobs.cancel(DEV, job.id)
            case _:
                await stores.claims.release("worker-a", counts_as_retry=True, max_retries=0)
        ended = await stores.jobs.get(DEV, job.id)
        assert ended.status.is_terminal
        assert await asyncio.gather(*waiters) == [ended] * 3
