"""The contract of `JobStore` from submission to result, on every database."""

import asyncio
from decimal import Decimal

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Policy, Returned, SweepResult
from flux_endpoint.core.picture_work import picture_work
from tests.contract.samples import DEV, LEASE_S, OUTPUT, SCHNELL, claim_one, enqueue_some, sample_job, sized

pytestmark = pytest.mark.anyio


async def test_an_enqueued_job_is_read_back_as_it_was(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    assert await stores.jobs.get(DEV, job.id) == job


async def test_a_worker_gets_the_trace_of_a_job(stores, clock):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await stores.jobs.enqueue(sample_job(clock, traceparent=traceparent))
    await stores.jobs.enqueue(sample_job(clock))
    claims = await stores.claims.claim("worker-a", [DEV], 2, LEASE_S)
    assert [claim.job.traceparent for claim in claims] == [traceparent, None]


async def test_a_job_refused_at_the_door_is_kept_and_never_handed_out(stores, clock):
    job = sample_job(clock, status=JobStatus.FAILED, error="no", finished_ms=clock.now_ms(), cost_usd=Decimal(0))
    await stores.jobs.enqueue(job)
    assert await stores.jobs.get(DEV, job.id) == job
    assert await stores.jobs.wait(DEV, job.id, timeout_s=0) == job
    assert await stores.claims.claim("worker-a", [DEV], 1, LEASE_S) == []


async def test_an_id_is_taken_once(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    with pytest.raises(ValueError, match="refuses"):
        await stores.jobs.enqueue(sample_job(clock, id=job.id, input={}))
    assert await stores.jobs.get(DEV, job.id) == job


@pytest.mark.parametrize("status", sorted(set(JobStatus) - {JobStatus.IN_QUEUE, JobStatus.FAILED}))
async def test_a_job_of_another_status_is_refused(stores, clock, status):
    job = sample_job(clock, status=status)
    with pytest.raises(ValueError, match=status):
        await stores.jobs.enqueue(job)
    with pytest.raises(UnknownJob):
        await stores.jobs.get(DEV, job.id)


@pytest.mark.parametrize("changes", [{"status": JobStatus.FAILED}, {"finished_ms": 5}])
async def test_a_new_job_has_an_end_exactly_when_it_is_failed(stores, clock, changes):
    with pytest.raises(ValueError, match="finished_ms"):
        await stores.jobs.enqueue(sample_job(clock, **changes))


async def test_what_json_cannot_hold_is_refused(stores, clock):
    job = sample_job(clock, input={"guidance": float("nan")})
    with pytest.raises(ValueError, match="refuses"):
        await stores.jobs.enqueue(job)
    with pytest.raises(UnknownJob):
        await stores.jobs.get(DEV, job.id)


@pytest.mark.parametrize("job_id", ["nothing", "", "nul \x00", "surrogate \ud800", "' OR 1=1 --", "ü" * 5_000])
async def test_an_unknown_job_is_unknown_to_every_verb(stores, job_id):
    with pytest.raises(UnknownJob):
        await stores.jobs.get(DEV, job_id)
    with pytest.raises(UnknownJob):
        await stores.jobs.wait(DEV, job_id, timeout_s=10)
    with pytest.raises(UnknownJob):
        await stores.jobs.cancel(DEV, job_id)
    with pytest.raises(UnknownJob):
        await stores.claims.finish(job_id, "worker-a", 1, Failed("x"))


async def test_a_job_is_known_on_its_own_endpoint_only(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    with pytest.raises(UnknownJob):
        await stores.jobs.get(SCHNELL, job.id)
    with pytest.raises(UnknownJob):
        await stores.jobs.wait(SCHNELL, job.id, timeout_s=10)
    with pytest.raises(UnknownJob):
        await stores.jobs.cancel(SCHNELL, job.id)
    assert (await stores.jobs.get(DEV, job.id)).status is JobStatus.IN_QUEUE


async def test_a_claim_takes_the_oldest_and_says_who_holds_it_until_when(stores, clock):
    jobs = await enqueue_some(stores, clock, 3)
    clock.advance(s=2)
    claims = await stores.claims.claim("worker-a", [DEV], 2, LEASE_S)
    assert [claim.job.id for claim in claims] == [job.id for job in jobs[:2]]
    for claim, job in zip(claims, jobs, strict=False):
        assert (claim.worker_id, claim.token) == ("worker-a", 1)
        assert claim.expires_ms == clock.now_ms() + 30_000
        assert claim.job == await stores.jobs.get(DEV, job.id)
        assert claim.job.status is JobStatus.IN_PROGRESS
        assert claim.job.worker_id == "worker-a"
        assert claim.job.started_ms == clock.now_ms()
        assert claim.job.claim_token == 1
        assert claim.job.input == job.input
        assert claim.job.delay_time_ms == clock.now_ms() - job.created_ms


async def test_jobs_of_one_millisecond_come_in_the_order_they_were_enqueued(stores, clock):
    now_ms = clock.now_ms()
    jobs = await enqueue_some(stores, clock, 20, created_ms=now_ms, queued_ms=now_ms)
    claims = await stores.claims.claim("worker-a", [DEV], 20, LEASE_S)
    assert [claim.job.id for claim in claims] == [job.id for job in jobs]


async def test_a_claim_is_oldest_first_across_endpoints_and_takes_no_other_endpoint(stores, clock):
    first, second, third, _ = [
        (await enqueue_some(stores, clock, 1, endpoint_id=endpoint_id))[0]
        for endpoint_id in (SCHNELL, DEV, SCHNELL, "another")
    ]
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 9, LEASE_S)] == [second.id]
    claims = await stores.claims.claim("w", {DEV, SCHNELL}, 9, LEASE_S)
    assert [claim.job.id for claim in claims] == [first.id, third.id]


async def test_a_claim_is_empty_when_nothing_waits_or_nothing_is_asked_for(stores, clock):
    assert await stores.claims.claim("worker-a", [DEV], 1, LEASE_S) == []
    await enqueue_some(stores, clock, 1)
    assert await stores.claims.claim("worker-a", [DEV], 0, LEASE_S) == []
    assert await stores.claims.claim("worker-a", [], 1, LEASE_S) == []
    assert await stores.claims.claim("worker-a", [SCHNELL], 1, LEASE_S) == []


async def test_a_busy_worker_gets_the_oldest_job_of_those_that_are_short_enough(stores, clock):
    at_most = round(picture_work(sized(512, 8)))
    long, low, short, shorter = [
        (await enqueue_some(stores, clock, 1, input=sized(side, steps), policy=Policy(low_priority=is_low)))[0]
        for side, steps, is_low in ((512, 9, False), (256, 4, True), (512, 7, False), (256, 4, False))
    ]
    assert await stores.claims.wait_for_jobs([DEV], 0, at_most)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S, at_most)
    assert (claim.job.id, claim.token) == (short.id, 1)
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 9, LEASE_S, at_most)] == [shorter.id]
    assert not await stores.claims.wait_for_jobs([DEV], 0, at_most)
    assert await stores.claims.claim("w", [DEV], 9, LEASE_S, at_most) == []
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 9, LEASE_S)] == [long.id, low.id]


async def test_a_job_without_a_size_is_never_short(stores, clock):
    await enqueue_some(stores, clock, 1)
    await enqueue_some(stores, clock, 1, input={"width": "512", "height": 512, "num_inference_steps": 4})
    assert not await stores.claims.wait_for_jobs([DEV], 0, 10**9)
    assert await stores.claims.claim("w", [DEV], 9, LEASE_S, 10**9) == []


async def test_a_short_job_wakes_a_busy_worker_that_waits_for_one(stores, clock):
    waiting = asyncio.create_task(stores.claims.wait_for_jobs([DEV], 60, round(picture_work(sized(256, 4)))))
    async with asyncio.timeout(20):
        await enqueue_some(stores, clock, 1, input=sized(1536, 50))
        await enqueue_some(stores, clock, 1, input=sized(256, 4))
        assert await waiting


@pytest.mark.parametrize("number_of_gateways", [1, 2])
async def test_twenty_busy_workers_get_every_short_job_once(stores, open_another, clock, number_of_gateways):
    jobs = await enqueue_some(stores, clock, 100, input=sized(256, 4))
    gateways = [stores, *[await open_another() for _ in range(number_of_gateways - 1)]]
    claimed = []

    async def work(number):
        gateway = gateways[number % number_of_gateways]
        while claims := await gateway.claims.claim(f"worker-{number}", [DEV], 3, LEASE_S, 10**9):
            claimed.extend(claim.job.id for claim in claims)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert sorted(claimed) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("number_of_gateways", [1, 2])
async def test_twenty_workers_get_every_job_once(stores, open_another, clock, number_of_gateways):
    jobs = await enqueue_some(stores, clock, 200)
    gateways = [stores, *[await open_another() for _ in range(number_of_gateways - 1)]]
    claimed = []

    async def work(number):
        gateway = gateways[number % number_of_gateways]
        while claims := await gateway.claims.claim(f"worker-{number}", [DEV], 3, LEASE_S):
            claimed.extend(claim.job.id for claim in claims)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert sorted(claimed) == sorted(job.id for job in jobs)


async def test_a_renewed_claim_lasts_longer_and_the_others_do_not(stores, clock):
    await enqueue_some(stores, clock, 2)
    kept, lost = await stores.claims.claim("worker-a", [DEV], 2, LEASE_S)
    clock.advance(s=20)
    assert await stores.claims.renew("worker-a", [kept.job.id], LEASE_S) == frozenset()
    clock.advance(s=20)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(requeued=(lost.job.id,))
    clock.advance(s=10)
    assert (await stores.claims.sweep(max_retries=1)).requeued == (kept.job.id,)


async def test_renewing_tells_what_the_worker_does_not_hold(stores, clock):
    await enqueue_some(stores, clock, 5)
    mine, cancelled, finished = [claim.job for claim in await stores.claims.claim("worker-a", [DEV], 3, LEASE_S)]
    others = (await claim_one(stores, "worker-b")).job
    (waiting,) = [claim.job for claim in await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)]
    await stores.claims.finish(waiting.id, "worker-a", 1, Returned())
    await stores.jobs.cancel(DEV, cancelled.id)
    await stores.claims.finish(finished.id, "worker-a", 1, Failed("x"))
    asked = [mine.id, cancelled.id, finished.id, others.id, waiting.id, "unknown"]
    assert await stores.claims.renew("worker-a", asked, LEASE_S) == frozenset(asked) - {mine.id}
    assert await stores.claims.renew("worker-a", [], LEASE_S) == frozenset()


async def test_completing_writes_output_end_and_charge(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    clock.advance(s=7)
    done = await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert done == await stores.jobs.get(DEV, job.id)
    assert done.status is JobStatus.COMPLETED
    assert done.output == OUTPUT
    assert done.error is None
    assert done.finished_ms == clock.now_ms()
    assert done.execution_time_ms == 7_000
    (entry,) = await stores.accounts.entries()
    assert (entry.job_id, entry.key_id, entry.amount_usd) == (job.id, job.key_id, job.cost_usd)


async def test_failing_writes_the_error_and_charges_nothing(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    failed = await stores.claims.finish(job.id, "worker-a", claim.token, Failed("out of memory \x00 \ud800"))
    assert failed == await stores.jobs.get(DEV, job.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error.startswith("out of memory")
    assert failed.finished_ms == clock.now_ms()
    assert failed.output is None
    assert await stores.accounts.entries() == []


async def test_a_returned_job_keeps_its_place_and_counts_no_retry(stores, clock):
    first, second = await enqueue_some(stores, clock, 2)
    claim = await claim_one(stores)
    clock.advance(s=5)
    back = await stores.claims.finish(first.id, "worker-a", claim.token, Returned())
    assert back.status is JobStatus.IN_QUEUE
    assert (back.retries, back.queued_ms, back.finished_ms) == (0, first.queued_ms, None)
    again = await stores.claims.claim("worker-b", [DEV], 2, LEASE_S)
    assert [claim.job.id for claim in again] == [first.id, second.id]
    assert [claim.token for claim in again] == [2, 1]


@pytest.mark.parametrize("outcome", [Completed(OUTPUT), Failed("bad")], ids=["completed", "failed"])
@pytest.mark.parametrize("with_token", [True, False])
async def test_repeating_a_report_changes_nothing(stores, clock, outcome, with_token):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    token = claim.token if with_token else None
    first = await stores.claims.finish(job.id, "worker-a", token, outcome)
    clock.advance(s=1)
    assert await stores.claims.finish(job.id, "worker-a", token, outcome) == first
    assert len(await stores.accounts.entries()) == (1 if isinstance(outcome, Completed) else 0)


async def test_the_same_report_at_the_same_moment_is_charged_once(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    await claim_one(stores)
    reports = [stores.claims.finish(job.id, "worker-a", 1, Completed(OUTPUT)) for _ in range(8)]
    assert {done.status for done in await asyncio.gather(*reports)} == {JobStatus.COMPLETED}
    assert len(await stores.accounts.entries()) == 1


@pytest.mark.parametrize("first", [Completed(OUTPUT), Failed("bad")], ids=["completed", "failed"])
async def test_a_different_report_after_the_end_is_refused(stores, clock, first):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    done = await stores.claims.finish(job.id, "worker-a", claim.token, first)
    for other in (Completed(OUTPUT), Failed("bad"), Returned()):
        if type(other) is not type(first):
            with pytest.raises(LeaseLost):
                await stores.claims.finish(job.id, "worker-a", claim.token, other)
    assert await stores.jobs.get(DEV, job.id) == done


@pytest.mark.parametrize("outcome", [Completed(OUTPUT), Failed("bad"), Returned()], ids=["done", "failed", "returned"])
async def test_only_the_holder_may_report(stores, clock, outcome):
    (job,) = await enqueue_some(stores, clock, 1)
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", None, outcome)
    old = await claim_one(stores)
    for worker_id, token in (("worker-b", old.token), ("worker-b", None), ("worker-a", old.token + 1)):
        with pytest.raises(LeaseLost):
            await stores.claims.finish(job.id, worker_id, token, outcome)
    # The same worker, but it lost the lease in between and claimed the job again.
    clock.advance(s=LEASE_S + 1)
    await stores.claims.sweep(max_retries=1)
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", old.token, outcome)
    new = await claim_one(stores)
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", old.token, outcome)
    assert await stores.accounts.entries() == []
    await stores.claims.finish(job.id, "worker-a", new.token, outcome)


async def test_an_output_that_json_cannot_hold_is_refused_and_the_claim_stands(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    with pytest.raises(ValueError, match="refuses"):
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed({"x": float("inf")}))
    assert (await stores.jobs.get(DEV, job.id)).status is JobStatus.IN_PROGRESS
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed({"x": "\x00\ud800"}))
    assert (await stores.jobs.get(DEV, job.id)).output == {"x": "\x00\ud800"}


async def test_an_expired_lease_that_nobody_took_back_still_counts(stores, clock):
    (job,) = await enqueue_some(stores, clock, 1)
    claim = await claim_one(stores)
    clock.advance(s=LEASE_S * 10)
    assert (
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    ).status is JobStatus.COMPLETED
