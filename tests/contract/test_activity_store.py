"""The contract of `ActivityStore` on every database, against figures worked out by hand."""

import asyncio

import pytest

from flux_endpoint.core.activity import Activity, EndedJobs, OutcomeCount, Percentiles, QueueFigures
from flux_endpoint.core.job import Completed, Failed, JobStatus, Policy
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


async def run(stores, clock, outcome, *, delay_ms=0, execution_ms=0, endpoint_id=DEV):
    job = sample_job(clock, endpoint_id=endpoint_id)
    await stores.jobs.enqueue(job)
    clock.advance(ms=delay_ms)
    (claim,) = await stores.claims.claim("w", [endpoint_id], 1, LEASE_S)
    clock.advance(ms=execution_ms)
    return await stores.claims.finish(job.id, "w", claim.token, outcome)


async def test_outcomes_are_counted_by_the_time_of_their_end(stores, clock):
    clock.advance(ms=2 * MINUTE_MS - clock.now_ms() % MINUTE_MS)
    start_ms = clock.now_ms()
    for _ in range(3):
        await run(stores, clock, Completed({}))
    await run(stores, clock, Completed({}), endpoint_id=SCHNELL)
    await run(stores, clock, Failed("no"))
    clock.advance(ms=MINUTE_MS)
    waiting = sample_job(clock)
    await stores.jobs.enqueue(waiting)
    await stores.jobs.cancel(DEV, waiting.id)
    outlived = sample_job(clock, expires_ms=clock.now_ms() + 2)
    await stores.jobs.enqueue(outlived)
    clock.advance(ms=2)
    await stores.claims.sweep(1)
    # Lost once, done the second time.
    lost = sample_job(clock)
    await stores.jobs.enqueue(lost)
    await stores.claims.claim("gone", [DEV], 1, LEASE_S)
    await stores.claims.release("gone", counts_as_retry=True, max_retries=1)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    await stores.claims.finish(lost.id, "w", claim.token, Completed({}))
    for _ in range(3):
        await stores.jobs.enqueue(sample_job(clock))
    await stores.claims.claim("w", [DEV], 1, LEASE_S)

    seen = await stores.activity.activity([DEV], start_ms, start_ms + 2 * MINUTE_MS, MINUTE_MS)
    second_ms = start_ms + MINUTE_MS
    assert sorted(seen.outcomes, key=lambda part: (part.start_ms, part.status)) == [
        OutcomeCount(start_ms, JobStatus.COMPLETED, 3),
        OutcomeCount(start_ms, JobStatus.FAILED, 1),
        OutcomeCount(second_ms, JobStatus.CANCELLED, 1),
        OutcomeCount(second_ms, JobStatus.COMPLETED, 1),
        OutcomeCount(second_ms, JobStatus.TIMED_OUT, 1),
    ]
    assert (seen.retries, seen.in_queue, seen.in_progress) == (1, 2, 1)
    # What ended before or after is not counted; several endpoints are counted together.
    first = await stores.activity.activity([DEV, SCHNELL], start_ms, second_ms, 10 * MINUTE_MS)
    assert sum(part.jobs for part in first.outcomes) == 5
    assert (first.retries, sum(part.jobs for part in first.outcomes if part.status is JobStatus.COMPLETED)) == (0, 4)


async def test_percentiles_are_by_nearest_rank_of_completed_jobs(stores, clock):
    start_ms = clock.now_ms()
    # 20 completed jobs: execution 100 to 2000 ms in a mixed order, delay the same backwards.
    for place in [7 * number % 20 + 1 for number in range(20)]:
        await run(stores, clock, Completed({}), delay_ms=10 * (21 - place), execution_ms=100 * place)
    await run(stores, clock, Failed("no"), delay_ms=9_000, execution_ms=9_000)
    seen = await stores.activity.activity([DEV], start_ms, clock.now_ms() + 1, MINUTE_MS)
    # Of 20: the 14th, the 18th, and the 20th, because 19.6 is not reached before.
    assert seen.execution == Percentiles(1_400, 1_800, 2_000)
    assert seen.delay == Percentiles(140, 180, 200)


async def test_one_job_is_all_percentiles_and_none_has_none(stores, clock):
    start_ms = clock.now_ms()
    nothing = Activity([], 0, None, None, 0, None, 0, 0)
    assert await stores.activity.activity([DEV], 0, start_ms + 1, MINUTE_MS) == nothing
    await run(stores, clock, Completed({}), delay_ms=5, execution_ms=7)
    seen = await stores.activity.activity([DEV], start_ms, clock.now_ms() + 1, MINUTE_MS)
    assert (seen.execution, seen.delay) == (Percentiles(7, 7, 7), Percentiles(5, 5, 5))
    assert await stores.activity.activity([], 0, clock.now_ms() + 1, MINUTE_MS) == nothing
    assert await stores.activity.activity(["elsewhere"], 0, clock.now_ms() + 1, MINUTE_MS) == nothing


async def test_a_cold_start_is_counted_once_by_the_time_of_its_end(stores, open_another):
    other = await open_another()
    for number in range(10):
        await stores.activity.note_cold_start(f"w-{number}", [DEV, SCHNELL], 100 * (number + 1), 1_000 + number)
    # Told again because the answer was lost, to another gateway; and a worker of that name that started anew.
    await other.activity.note_cold_start("w-3", [DEV, SCHNELL], 400, 5_000)
    await other.activity.note_cold_start("w-3", [SCHNELL], 1_100, 5_000)
    await stores.activity.note_cold_start("nobody", [], 7, 1_000)

    async def seen(endpoint_ids, since_ms, until_ms):
        activity = await other.activity.activity(endpoint_ids, since_ms, until_ms, MINUTE_MS)
        return activity.cold_starts, activity.cold_start

    assert await seen([DEV, SCHNELL], 0, 5_001) == (11, Percentiles(800, 1_000, 1_100))
    assert await seen([DEV], 0, 5_001) == (10, Percentiles(700, 900, 1_000))
    assert await seen([SCHNELL], 1_009, 5_000) == (1, Percentiles(1_000, 1_000, 1_000))
    assert await seen(["elsewhere"], 0, 5_001) == (0, None)
    await stores.retention.forget(1_009)
    assert await seen([DEV], 0, 5_001) == (1, Percentiles(1_000, 1_000, 1_000))


async def test_a_cold_start_told_to_many_gateways_at_once_is_one(stores, open_another):
    gateways = [stores, *[await open_another() for _ in range(3)]]
    await asyncio.gather(
        *(one.activity.note_cold_start("w\x00", [DEV], 9, 10 + place) for place, one in enumerate(gateways))
    )
    assert (await stores.activity.activity([DEV], 0, 100, MINUTE_MS)).cold_starts == 1


async def test_what_waits_and_for_how_long_by_endpoint(stores, clock):
    low = [False, False, True, True]
    jobs = [sample_job(clock, policy=Policy(low_priority=is_low)) for is_low in low]
    for job in jobs:
        await stores.jobs.enqueue(job)
    await stores.claims.claim("w", [DEV], 1, LEASE_S)
    figures = {queue.endpoint_id: queue for queue in await stores.activity.queues([SCHNELL, DEV])}
    assert figures == {
        DEV: QueueFigures(DEV, 3, 1, 1, jobs[1].created_ms),
        SCHNELL: QueueFigures(SCHNELL, 0, 0, 0, None),
    }


async def test_ended_jobs_are_told_apart_by_what_a_histogram_needs(stores, clock):
    since_ms = clock.now_ms()
    # Ends at a bound count below it; times of jobs of one piece are summed up.
    for delay_ms, execution_ms in ((10, 100), (0, 90), (11, 100)):
        await run(stores, clock, Completed({}), delay_ms=delay_ms, execution_ms=execution_ms)
    await run(stores, clock, Failed("no"), delay_ms=700_000, execution_ms=0)
    waiting = sample_job(clock)
    await stores.jobs.enqueue(waiting)
    await stores.jobs.cancel(DEV, waiting.id)
    until_ms = clock.now_ms() + 1
    ended = await stores.activity.ended([DEV, SCHNELL], since_ms, until_ms)
    assert sorted(ended, key=lambda part: (part.status, part.delay or 0)) == [
        EndedJobs(DEV, JobStatus.CANCELLED, 1, 0, None, None, 0, 0),
        EndedJobs(DEV, JobStatus.COMPLETED, 2, 0, 0, 3, 10, 190),
        EndedJobs(DEV, JobStatus.COMPLETED, 1, 0, 1, 3, 11, 100),
        EndedJobs(DEV, JobStatus.FAILED, 1, 0, 15, 0, 700_000, 0),
    ]
    assert await stores.activity.ended([DEV], until_ms, until_ms + 1) == []
    assert await stores.activity.ended([SCHNELL], since_ms, until_ms) == []
