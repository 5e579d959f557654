"""The contract of the verbs of `JobStore` that only look, on every database."""

import asyncio
import dataclasses

import pytest

from flux_endpoint.core.errors import UnknownJob
from flux_endpoint.core.job import MAX_QUEUE_POSITION, Completed, Failed, JobCounts, JobStatus, Returned
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_bucket, sample_job

pytestmark = pytest.mark.anyio


async def places(stores, jobs):
    return [await stores.jobs.queue_position(await stores.jobs.get(job.endpoint_id, job.id)) for job in jobs]


async def test_the_place_in_the_queue_is_the_order_of_the_claims(stores, clock):
    jobs = [sample_job(clock) for _ in range(5)]
    # In the same millisecond the one that was written first is first.
    jobs[3] = dataclasses.replace(jobs[3], created_ms=jobs[2].created_ms)
    elsewhere = sample_job(clock, endpoint_id=SCHNELL)
    for job in [*jobs, elsewhere]:
        await stores.jobs.enqueue(job)
    assert await places(stores, [*jobs, elsewhere]) == [1, 2, 3, 4, 5, 1]
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.jobs.cancel(DEV, jobs[2].id)
    assert await places(stores, jobs) == [None, 1, None, 2, 3]
    # Back at its old place.
    await stores.claims.finish(claim.job.id, "w", claim.token, Returned())
    assert await places(stores, jobs) == [1, 2, None, 3, 4]


async def test_a_place_is_counted_to_a_limit(stores, clock, monkeypatch):
    monkeypatch.setattr("flux_endpoint.stores.jobs.store.MAX_QUEUE_POSITION", 3)
    jobs = [sample_job(clock) for _ in range(5)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    assert await places(stores, jobs) == [1, 2, 3, 3, 3]
    assert MAX_QUEUE_POSITION == 10_000


async def change(stores, claim, event):
    match event:
        case "chunk":
            await stores.claims.append_chunk(claim.job.id, "w", claim.token, 1, {"step": 1, "total": 2})
        case "completed":
            await stores.claims.finish(claim.job.id, "w", claim.token, Completed({"image_url": "x"}))
        case "failed":
            await stores.claims.finish(claim.job.id, "w", claim.token, Failed("no"))
        case "returned":
            await stores.claims.finish(claim.job.id, "w", claim.token, Returned())
        case "cancelled":
            await stores.jobs.cancel(DEV, claim.job.id)
        case "released":
            await stores.claims.release("w", counts_as_retry=True, max_retries=1)


@pytest.mark.parametrize("event", ["chunk", "completed", "failed", "returned", "cancelled", "released"])
async def test_an_onlooker_sleeps_until_the_job_changes(stores, clock, event):
    await stores.jobs.enqueue(sample_job(clock))
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    onlookers = [asyncio.create_task(stores.jobs.wait_for_change(DEV, claim.job.id, claim.job, 30)) for _ in range(3)]
    await asyncio.sleep(0)
    await change(stores, claim, event)
    async with asyncio.timeout(20):
        seen = await asyncio.gather(*onlookers)
    now = await stores.jobs.get(DEV, claim.job.id)
    assert seen == [now] * 3
    assert now != claim.job


async def test_an_onlooker_hears_of_the_claim_and_of_a_retry(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    onlooker = asyncio.create_task(stores.jobs.wait_for_change(DEV, job.id, job, 30))
    await asyncio.sleep(0)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    async with asyncio.timeout(20):
        assert await onlooker == claim.job
    failed = await stores.claims.finish(job.id, "w", claim.token, Failed("no"))
    onlooker = asyncio.create_task(stores.jobs.wait_for_change(DEV, job.id, failed, 30))
    await asyncio.sleep(0)
    await stores.jobs.retry(DEV, job.id)
    async with asyncio.timeout(20):
        assert (await onlooker).status is JobStatus.IN_QUEUE


async def test_nothing_changes_for_as_long_as_the_onlooker_waits(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    assert await stores.jobs.wait_for_change(DEV, job.id, job, 0.05) == job
    # What changed before the call is no news to wait for.
    assert await stores.jobs.wait_for_change(DEV, job.id, dataclasses.replace(job, retries=1), 30) == job
    assert not stores.jobs.is_draining
    stores.drain()
    assert stores.jobs.is_draining
    async with asyncio.timeout(20):
        assert await stores.jobs.wait_for_change(DEV, job.id, job, 60) == job
    with pytest.raises(UnknownJob):
        await stores.jobs.wait_for_change(SCHNELL, job.id, job, 30)


async def test_an_onlooker_at_another_gateway_hears_of_it_too(stores, open_another, clock):
    other = await open_another()
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    onlooker = asyncio.create_task(other.jobs.wait_for_change(DEV, job.id, job, 30))
    await asyncio.sleep(0)
    await stores.jobs.cancel(DEV, job.id)
    async with asyncio.timeout(20):
        assert (await onlooker).status is JobStatus.CANCELLED


async def listed(stores, *statuses, limit=100, before=None, endpoint_id=DEV):
    jobs, rest = await stores.jobs.recent(endpoint_id, statuses, limit, before)
    return [job.id for job in jobs], rest


async def test_a_listing_is_newest_first_and_by_endpoint(stores, clock):
    jobs = [sample_job(clock) for _ in range(4)]
    # In the same millisecond the one that was written last is the newest.
    jobs[2] = dataclasses.replace(jobs[2], created_ms=jobs[1].created_ms)
    for job in [*jobs, sample_job(clock, endpoint_id=SCHNELL)]:
        await stores.jobs.enqueue(job)
    assert await listed(stores) == ([job.id for job in reversed(jobs)], None)
    assert await listed(stores, endpoint_id="elsewhere") == ([], None)


@pytest.mark.parametrize("statuses", [(), (JobStatus.IN_QUEUE, JobStatus.CANCELLED)])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_miss_nothing_and_repeat_nothing_while_jobs_arrive(stores, clock, limit, statuses):
    jobs = [sample_job(clock) for _ in range(7)]
    # Three in one millisecond, which pages of one and two cut in between.
    jobs[2:5] = [dataclasses.replace(job, created_ms=jobs[2].created_ms) for job in jobs[2:5]]
    for job in jobs:
        await stores.jobs.enqueue(job)
    for job in jobs[::2]:
        await stores.jobs.cancel(DEV, job.id)
    seen, before = [], None
    while True:
        page, before = await listed(stores, *statuses, limit=limit, before=before)
        assert len(page) == min(limit, 7 - len(seen))
        seen += page
        if before is None:
            break
        await stores.jobs.enqueue(sample_job(clock))
    assert seen == [job.id for job in reversed(jobs)]


async def test_a_listing_is_filtered_by_status(stores, clock):
    jobs = [sample_job(clock) for _ in range(5)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    await stores.jobs.cancel(DEV, jobs[4].id)
    first, second = await stores.claims.claim("w", [DEV], 2, LEASE_S)
    await stores.claims.finish(first.job.id, "w", first.token, Completed({"image_url": "x"}))
    await stores.claims.finish(second.job.id, "w", second.token, Failed("no"))
    ids = [job.id for job in jobs]
    assert await listed(stores, JobStatus.COMPLETED) == ([ids[0]], None)
    assert await listed(stores, JobStatus.FAILED, JobStatus.CANCELLED) == ([ids[4], ids[1]], None)
    assert await listed(stores, JobStatus.FAILED, JobStatus.FAILED) == ([ids[1]], None)
    assert await listed(stores, JobStatus.IN_PROGRESS) == ([], None)
    assert await listed(stores, *JobStatus) == (ids[::-1], None)


async def test_a_listing_shows_figures_and_neither_inputs_nor_results(stores, clock):
    job = sample_job(
        clock,
        webhook="https://example.com/",
        bucket=sample_bucket("x"),
        retention_ms=1_000,
    )
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.claims.append_chunk(job.id, "w", claim.token, 1, {"step": 1, "total": 2})
    ((running,), _) = await stores.jobs.recent(DEV, [], 1)
    hidden = {"input": {}, "webhook": None, "bucket": None, "progress": None}
    assert running == dataclasses.replace(claim.job, **hidden)
    finished = await stores.claims.finish(job.id, "w", claim.token, Failed("x" * 2_000))
    ((failed,), _) = await stores.jobs.recent(DEV, [], 1)
    assert failed == dataclasses.replace(finished, **hidden, error="x" * 1_000)
    # What can no longer be read is listed all the same, erased or not.
    clock.advance(s=2)
    for _ in range(2):
        with pytest.raises(UnknownJob):
            await stores.jobs.get(DEV, job.id)
        assert (await listed(stores))[0] == [job.id]
        await stores.retention.erase_expired()


async def test_lists_and_counts_of_one_key_are_pages_of_the_whole(stores, clock):
    jobs = [sample_job(clock, key_id=f"key-{number % 2}") for number in range(8)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    await stores.jobs.cancel(DEV, jobs[2].id)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.claims.finish(claim.job.id, "w", claim.token, Completed({}))
    own = [job.id for job in jobs[::2]][::-1]
    seen, before = [], None
    for size in (3, 1):
        page, before = await stores.jobs.recent(DEV, [], 3, before, "key-0")
        assert len(page) == size
        seen += [job.id for job in page]
    assert (seen, before) == (own, None)
    assert [job.id for job in (await stores.jobs.recent(DEV, [JobStatus.CANCELLED], 9, None, "key-0"))[0]] == [
        jobs[2].id
    ]
    assert await stores.jobs.recent(DEV, [], 9, None, "nobody") == ([], None)
    assert await stores.jobs.counts(DEV, "key-0") == JobCounts(in_queue=2, completed=1)
    assert await stores.jobs.counts(DEV, "key-1") == JobCounts(in_queue=4)
    assert await stores.jobs.counts(SCHNELL, "key-1") == await stores.jobs.counts(DEV, "nobody") == JobCounts()
    assert await stores.jobs.purge(DEV, "key-0") == 2
    assert await stores.jobs.counts(DEV) == JobCounts(in_queue=4, completed=1)


async def test_a_request_refused_at_the_door_is_listed_and_counted_as_nothing(stores, clock):
    now_ms = clock.now_ms()
    refused = sample_job(clock, status=JobStatus.FAILED, finished_ms=now_ms, error="no", expires_ms=now_ms + 1_000)
    await stores.jobs.enqueue(refused)
    await stores.jobs.enqueue(sample_job(clock))
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.claims.finish(claim.job.id, "w", claim.token, Failed("no"))
    for _ in range(2):
        assert await stores.jobs.counts(DEV) == await stores.jobs.counts(DEV, refused.key_id) == JobCounts(failed=1)
        assert refused.id in (await listed(stores, JobStatus.FAILED))[0]
        clock.advance(s=2)
        await stores.retention.erase_expired()
