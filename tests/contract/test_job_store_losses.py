"""The contract of `JobStore` when a job does not simply run: cancelled, lost, swept, forgotten, restarted."""

import asyncio

import pytest

from flux_endpoint.core.errors import LeaseLost, StoreUnavailable
from flux_endpoint.core.job import Completed, Failed, JobCounts, JobStatus, Returned, SweepResult
from tests.contract.samples import DEV, LEASE_S, OUTPUT, SCHNELL, claim_one, enqueue_some, sample_job

pytestmark = pytest.mark.anyio


async def test_a_waiting_job_is_cancelled_and_never_handed_out(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    clock.advance(s=1)
    cancelled = await stores.jobs.cancel(DEV, job.id)
    assert cancelled == await stores.jobs.get(DEV, job.id)
    assert (cancelled.status, cancelled.finished_ms) == (JobStatus.CANCELLED, clock.now_ms())
    assert await stores.claims.claim("worker-a", [DEV], 1, LEASE_S) == []
    assert await stores.accounts.entries() == []


async def test_cancelling_a_job_that_ended_leaves_it_as_it_is(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    done = await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(s=1)
    assert await stores.jobs.cancel(DEV, job.id) == done
    assert await stores.claims.wait_for_stops("worker-a", timeout_s=0) == []
    (cancelled,) = await enqueue_some(stores, clock, 1)
    first = await stores.jobs.cancel(DEV, cancelled.id)
    clock.advance(s=1)
    assert await stores.jobs.cancel(DEV, cancelled.id) == first


@pytest.mark.parametrize("outcome", [Completed(OUTPUT), Failed("bad"), Returned()], ids=["done", "failed", "returned"])
async def test_a_cancelled_job_takes_no_report(stores, clock, outcome):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    cancelled = await stores.jobs.cancel(DEV, job.id)
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", claim.token, outcome)
    assert await stores.jobs.get(DEV, job.id) == cancelled
    assert await stores.accounts.entries() == []


async def test_the_worker_of_a_cancelled_job_is_told_once(stores, clock):
    await enqueue_some(stores, clock, 3)
    first, second = await stores.claims.claim("worker-a", [DEV], 2, LEASE_S)
    await claim_one(stores, "worker-b")
    assert await stores.claims.wait_for_stops("worker-a", timeout_s=0) == []
    await stores.jobs.cancel(DEV, first.job.id)
    await stores.jobs.cancel(DEV, second.job.id)
    assert await stores.claims.wait_for_stops("worker-b", timeout_s=0.02) == []
    assert sorted(await stores.claims.wait_for_stops("worker-a", timeout_s=60)) == sorted([first.job.id, second.job.id])
    assert await stores.claims.wait_for_stops("worker-a", timeout_s=0.02) == []


async def test_a_stop_is_told_once_however_many_ask(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    waiters = [asyncio.create_task(stores.claims.wait_for_stops("worker-a", timeout_s=60)) for _ in range(6)]
    await asyncio.sleep(0)
    await stores.jobs.cancel(DEV, job.id)
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    # The others look once more, and fall asleep no more.
    stores.drain()
    assert sorted(await asyncio.gather(*waiters)) == [[]] * 5 + [[job.id]]


@pytest.mark.parametrize("yields", [0, 1, 2, 5])
async def test_a_worker_that_waits_for_stops_is_woken(stores, clock, yields):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    async with asyncio.timeout(20):
        waiter = asyncio.create_task(stores.claims.wait_for_stops("worker-a", timeout_s=60))
        for _ in range(yields):
            await asyncio.sleep(0)
        await stores.jobs.cancel(DEV, job.id)
        assert await waiter == [job.id]


async def test_a_worker_that_gave_the_job_back_is_not_told(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    await stores.claims.finish(job.id, "worker-a", claim.token, Returned())
    await stores.jobs.cancel(DEV, job.id)
    assert await stores.claims.wait_for_stops("worker-a", timeout_s=0) == []


async def test_cancel_and_finish_at_the_same_moment_have_one_winner(stores, open_another, clock):
    other = await open_another()
    jobs = await enqueue_some(stores, clock, 24)
    claims = await stores.claims.claim("worker-a", [DEV], 24, LEASE_S)
    for number, claim in enumerate(claims):
        rivals = [
            stores.jobs.cancel(DEV, claim.job.id),
            (other if number % 2 else stores).claims.finish(claim.job.id, "worker-a", claim.token, Completed(OUTPUT)),
        ]
        if number % 3 == 0:
            rivals.reverse()
        await asyncio.gather(*rivals, return_exceptions=True)
    ends = {job.id: (await stores.jobs.get(DEV, job.id)).status for job in jobs}
    assert set(ends.values()) <= {JobStatus.CANCELLED, JobStatus.COMPLETED}
    completed = sorted(job_id for job_id, status in ends.items() if status is JobStatus.COMPLETED)
    assert sorted(entry.job_id for entry in await stores.accounts.entries()) == completed
    told = await stores.claims.wait_for_stops("worker-a", timeout_s=0)
    assert sorted(told) == sorted(set(ends) - set(completed))


async def test_a_lost_lease_goes_back_once_and_then_fails(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    clock.advance(s=LEASE_S - 1)
    assert await stores.claims.sweep(max_retries=1) == SweepResult()
    clock.advance(s=1)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(requeued=(job.id,))
    back = await stores.jobs.get(DEV, job.id)
    assert (back.status, back.retries, back.error) == (JobStatus.IN_QUEUE, 1, None)
    assert (back.created_ms, back.queued_ms) == (job.created_ms, clock.now_ms())
    assert await stores.claims.sweep(max_retries=1) == SweepResult()

    assert (await claim_one(stores, "worker-b")).token == 2
    clock.advance(s=LEASE_S + 1)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(failed=(job.id,))
    failed = await stores.jobs.get(DEV, job.id)
    assert (failed.status, failed.retries, failed.finished_ms) == (JobStatus.FAILED, 1, clock.now_ms())
    assert failed.error == "job timed out after 1 retries"
    assert await stores.accounts.entries() == []


async def test_a_job_that_lost_its_worker_is_not_starved_by_younger_ones(stores, clock):
    old, *_ = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    await enqueue_some(stores, clock, 3)
    clock.advance(s=LEASE_S + 1)
    await stores.claims.sweep(max_retries=1)
    assert (await claim_one(stores)).job.id == old.id


async def test_two_sweeps_at_once_take_a_job_back_once(stores, open_another, clock):
    other = await open_another()
    jobs = await enqueue_some(stores, clock, 30)
    await stores.claims.claim("worker-a", [DEV], 30, LEASE_S)
    clock.advance(s=LEASE_S + 1)
    swept = await asyncio.gather(*(each.claims.sweep(max_retries=1) for each in (stores, other, stores, other)))
    assert sorted(job_id for result in swept for job_id in result.requeued) == sorted(job.id for job in jobs)
    assert (await stores.jobs.counts(DEV)).retried == 30


async def test_release_takes_back_from_the_workers_of_a_prefix_only(stores, clock):
    await enqueue_some(stores, clock, 5)
    held = {
        worker_id: (await claim_one(stores, worker_id)).job.id
        for worker_id in ("node_1-a", "node_1-b", "node_2-a", "NODE_1-a", "nodeX1-a")
    }
    result = await stores.claims.release("node_1-", counts_as_retry=False, max_retries=0)
    assert sorted(result.requeued) == sorted([held["node_1-a"], held["node_1-b"]])
    assert result.failed == ()
    assert (await stores.jobs.get(DEV, held["node_1-a"])).retries == 0
    counts = await stores.jobs.counts(DEV)
    assert (counts.in_queue, counts.in_progress) == (2, 3)


async def test_release_that_counts_fails_a_job_that_was_lost_too_often(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    assert await stores.claims.release("worker-a", counts_as_retry=True, max_retries=1) == SweepResult(
        requeued=(job.id,)
    )
    await claim_one(stores)
    assert await stores.claims.release("worker-a", counts_as_retry=False, max_retries=1) == SweepResult(
        requeued=(job.id,)
    )
    assert (await stores.jobs.get(DEV, job.id)).retries == 1
    await claim_one(stores)
    assert await stores.claims.release("worker-a", counts_as_retry=True, max_retries=1) == SweepResult(failed=(job.id,))
    assert (await stores.jobs.get(DEV, job.id)).error == "job timed out after 1 retries"


async def test_a_restarted_worker_of_the_same_id_is_told_nothing_about_its_past(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    await stores.jobs.cancel(DEV, job.id)
    assert await stores.claims.release("worker-a", counts_as_retry=True, max_retries=1) == SweepResult()
    assert await stores.claims.wait_for_stops("worker-a", timeout_s=0) == []
    assert (await stores.jobs.get(DEV, job.id)).status is JobStatus.CANCELLED


async def test_counts_are_of_one_endpoint(stores, clock):
    assert await stores.jobs.counts(DEV) == JobCounts()
    await enqueue_some(stores, clock, 3, endpoint_id=SCHNELL)
    jobs = await enqueue_some(stores, clock, 6)
    claims = await stores.claims.claim("worker-a", [DEV], 4, LEASE_S)
    await stores.claims.finish(claims[0].job.id, "worker-a", 1, Completed(OUTPUT))
    await stores.claims.finish(claims[1].job.id, "worker-a", 1, Failed("x"))
    await stores.jobs.cancel(DEV, claims[2].job.id)
    assert await stores.jobs.counts(DEV) == JobCounts(in_queue=2, in_progress=1, completed=1, failed=1)
    await stores.claims.release("worker-a", counts_as_retry=True, max_retries=1)
    assert await stores.jobs.counts(DEV) == JobCounts(in_queue=3, completed=1, failed=1, retried=1)
    assert (await stores.jobs.counts(SCHNELL)).in_queue == 3
    assert len(jobs) == 6


async def test_everything_survives_a_restart(stores, open_another, clock):
    waiting, running, done = await enqueue_some(stores, clock, 3)
    for job in (waiting, running):
        claim = await claim_one(stores)
        if job is waiting:
            await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    before = [await stores.jobs.get(DEV, job.id) for job in (waiting, running, done)]
    await stores.close()
    reopened = await open_another()
    assert [await reopened.jobs.get(DEV, job.id) for job in (waiting, running, done)] == before
    assert len(await reopened.accounts.entries()) == 1
    await reopened.claims.finish(running.id, "worker-a", 1, Completed(OUTPUT))
    assert (await claim_one(reopened)).job.id == done.id


async def test_a_closed_store_says_so_and_leaves_nobody_waiting(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    waiters = [
        asyncio.create_task(stores.jobs.wait(DEV, job.id, timeout_s=60)),
        asyncio.create_task(stores.claims.wait_for_jobs([DEV], timeout_s=60)),
        asyncio.create_task(stores.claims.wait_for_stops("worker-a", timeout_s=60)),
    ]
    await asyncio.wait(waiters, timeout=0.05)
    await stores.close()
    await stores.close()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable, match="closed"):
        await stores.jobs.enqueue(sample_job(clock))


async def test_a_caller_that_gives_up_leaves_a_working_store(stores, clock):
    jobs = await enqueue_some(stores, clock, 30)
    for number in range(30):
        task = asyncio.create_task(stores.claims.claim(f"worker-{number}", [DEV], 1, LEASE_S))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    # A claim whose answer nobody saw runs out like any other; on a server some are still under way, and come later.
    handed_out = set()
    async with asyncio.timeout(30):
        while len(handed_out) < len(jobs):
            clock.advance(s=LEASE_S + 1)
            await stores.claims.sweep(max_retries=1_000)
            handed_out |= {claim.job.id for claim in await stores.claims.claim("worker-x", [DEV], 99, LEASE_S)}
    assert handed_out == {job.id for job in jobs}
