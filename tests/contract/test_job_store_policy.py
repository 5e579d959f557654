"""The contract of `JobStore` about time and names: timeouts, time to live, retention, idempotency."""

import asyncio
import hashlib

import pytest
from sqlalchemy import select, text

from flux_endpoint.core.errors import Conflict, LeaseLost, ResultErased, UnknownJob
from flux_endpoint.core.job import (
    DEFAULT_TTL_MS,
    IDEMPOTENCY_KEY_LIFE_MS,
    Completed,
    Failed,
    IdempotencyKey,
    JobStatus,
    Policy,
    SweepResult,
)
from flux_endpoint.stores.sql.schema import idempotency_keys
from tests.contract.samples import DEV, LEASE_S, SCHNELL, claim_one, sample_bucket, sample_job

pytestmark = pytest.mark.anyio

OUTPUT = {"image_url": "x"}
SECRETS = {
    "webhook": "https://a.example/hook",
    "bucket": sample_bucket(),
}


async def is_gone(stores, job):
    with pytest.raises(UnknownJob):
        await stores.jobs.get(DEV, job.id)


async def test_everything_beside_the_input_is_read_back_as_it_was(stores, clock):
    policy = Policy(execution_timeout_ms=5_000, ttl_ms=10_000, low_priority=True)
    job = sample_job(clock, policy=policy, retention_ms=1, expires_ms=clock.now_ms() + 9_000, **SECRETS)
    assert await stores.jobs.enqueue(job) == job
    assert await stores.jobs.get(DEV, job.id) == job


async def test_a_job_that_runs_too_long_is_timed_out_and_its_worker_told(stores, clock):
    job = sample_job(clock, policy=Policy(execution_timeout_ms=5_000), retention_ms=60_000)
    await stores.jobs.enqueue(job)
    clock.advance(s=100)
    claim = await claim_one(stores)
    clock.advance(ms=4_999)
    assert await stores.claims.sweep(max_retries=1) == SweepResult()
    clock.advance(ms=1)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    ended = await stores.jobs.get(DEV, job.id)
    assert (ended.status, ended.execution_time_ms) == (JobStatus.TIMED_OUT, 5_000)
    assert ended.error == "the job ran longer than its execution timeout of 5000 ms"
    assert await stores.claims.wait_for_stops("worker-a", 0) == [job.id]
    assert await stores.claims.wait_for_stops("worker-a", 0) == []
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert await stores.accounts.entries() == []


async def test_a_timed_out_job_wakes_who_waits_for_it_and_can_be_retried(stores, clock):
    job = sample_job(clock, policy=Policy(execution_timeout_ms=5_000))
    await stores.jobs.enqueue(job)
    old = await claim_one(stores)
    waiter = asyncio.create_task(stores.jobs.wait(DEV, job.id, timeout_s=60))
    await asyncio.sleep(0)
    clock.advance(s=6)
    await stores.claims.sweep(max_retries=1)
    assert (await asyncio.wait_for(waiter, 20)).status is JobStatus.TIMED_OUT
    retried = await stores.jobs.retry(DEV, job.id)
    assert (retried.status, retried.error) == (JobStatus.IN_QUEUE, None)
    assert retried.expires_ms == clock.now_ms() + DEFAULT_TTL_MS
    claim = await claim_one(stores)
    assert await stores.claims.wait_for_stops("worker-a", 0) == []
    with pytest.raises(LeaseLost):
        await stores.claims.finish(job.id, "worker-a", old.token, Completed(OUTPUT))
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert [entry.job_id for entry in await stores.accounts.entries()] == [job.id]


async def test_a_waiting_job_whose_time_is_over_vanishes_and_is_never_handed_out(stores, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000)
    await stores.jobs.enqueue(job)
    clock.advance(s=10)
    assert await stores.claims.claim("worker-a", [DEV], 1, LEASE_S) == []
    assert not await stores.claims.wait_for_jobs([DEV], timeout_s=0)
    await is_gone(stores, job)
    for verb in (stores.jobs.cancel, stores.jobs.retry):
        with pytest.raises(UnknownJob):
            await verb(DEV, job.id)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert (await stores.jobs.counts(DEV)).failed == 1


async def test_a_running_job_whose_time_is_over_is_stopped(stores, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000)
    await stores.jobs.enqueue(job)
    await claim_one(stores)
    clock.advance(s=40)
    # Its lease is over too: it is not put back into the queue.
    assert await stores.claims.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert await stores.claims.wait_for_stops("worker-a", 0) == [job.id]
    await is_gone(stores, job)


async def test_a_result_that_nobody_can_read_is_not_charged(stores, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000, retention_ms=60_000)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    clock.advance(s=10)
    with pytest.raises(LeaseLost, match="time to live"):
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert await stores.accounts.entries() == []
    await is_gone(stores, job)
    assert await stores.claims.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert await stores.claims.wait_for_stops("worker-a", 0) == [job.id]


async def test_a_result_that_can_still_be_read_is_charged(stores, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000, retention_ms=60_000)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    clock.advance(ms=9_998)
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert (await stores.jobs.get(DEV, job.id)).output == OUTPUT
    assert [entry.job_id for entry in await stores.accounts.entries()] == [job.id]


@pytest.mark.parametrize(
    ("retention_ms", "ttl_ms", "kept_ms"),
    [(60_000, None, 60_000), (60_000, 30_000, 20_000), (5_000, 30_000, 5_000), (None, 30_000, 20_000)],
)
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_ended_job_is_read_for_the_shorter_of_retention_and_time_to_live(
    stores, clock, end, retention_ms, ttl_ms, kept_ms
):
    job = sample_job(clock, policy=Policy(ttl_ms=ttl_ms), retention_ms=retention_ms)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    clock.advance(s=10)
    match end:
        case "completed":
            await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
        case "failed":
            await stores.claims.finish(job.id, "worker-a", claim.token, Failed("x"))
        case _:
            await stores.jobs.cancel(DEV, job.id)
    clock.advance(ms=kept_ms - 1)
    assert (await stores.jobs.get(DEV, job.id)).status == end.upper()
    clock.advance(ms=1)
    await is_gone(stores, job)


async def test_without_retention_a_job_is_kept_for_ever(stores, clock):
    job = sample_job(clock, expires_ms=clock.now_ms() + DEFAULT_TTL_MS)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=5_000)
    assert await stores.retention.erase_expired() == 0
    assert (await stores.retention.forget(clock.now_ms())).jobs == 0
    assert (await stores.jobs.get(DEV, job.id)).output == OUTPUT


async def test_erasing_leaves_figures_only_and_forgetting_takes_them_too(stores, clock):
    job = sample_job(clock, retention_ms=60_000, **SECRETS)
    await stores.jobs.enqueue(job, IdempotencyKey("order-1", "hash"))
    claim = await claim_one(stores)
    await stores.claims.append_chunk(job.id, "worker-a", claim.token, "private")
    await stores.claims.finish(job.id, "worker-a", claim.token, Failed("no memory"))
    assert await stores.retention.erase_expired() == 0
    clock.advance(s=60)
    assert await stores.retention.erase_expired() == 1
    assert await stores.retention.erase_expired() == 0
    assert (await stores.jobs.counts(DEV)).failed == 1
    # Asked of the database itself: no verb shows an erased job.
    rows = await stores.database.read(lambda c: c.execute(text("SELECT * FROM jobs")))
    assert len(rows) == 1
    left = str(tuple(rows[0]))
    for private in ("猫", "secret", "a.example", "order-1"):
        assert private not in left
    assert rows[0].error == "no memory"
    assert (await stores.database.read(lambda c: c.execute(text("SELECT * FROM chunks")))) == []
    assert (await stores.retention.forget(clock.now_ms() - 60_000)).jobs == 0
    assert (await stores.retention.forget(clock.now_ms())).jobs == 1
    assert (await stores.jobs.counts(DEV)).failed == 0


async def test_erasing_and_forgetting_have_no_limit(stores, clock):
    fields = {"status": JobStatus.FAILED, "finished_ms": 1, "error": "no", "expires_ms": clock.now_ms()}
    ended = [sample_job(clock, **fields) for _ in range(1_001)]
    for start in range(0, len(ended), 50):
        await asyncio.gather(*(stores.jobs.enqueue(job) for job in ended[start : start + 50]))
    assert await stores.retention.erase_expired() == 1_001
    assert (await stores.retention.forget(2)).jobs == 1_001
    assert (await stores.jobs.counts(DEV)).failed == 0


async def test_charges_outlive_their_jobs(stores, clock):
    job = sample_job(clock, retention_ms=1_000)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=1)
    await stores.retention.erase_expired()
    await stores.retention.forget(clock.now_ms())
    assert [entry.job_id for entry in await stores.accounts.entries()] == [job.id]


async def test_credentials_are_dropped_when_nobody_needs_them_any_more(stores, clock):
    completed, failed = (sample_job(clock, **SECRETS) for _ in range(2))
    for job, outcome in ((completed, Completed(OUTPUT)), (failed, Failed("x"))):
        await stores.jobs.enqueue(job)
        claim = await claim_one(stores)
        await stores.claims.finish(job.id, "worker-a", claim.token, outcome)
    assert (await stores.jobs.get(DEV, completed.id)).bucket is None
    # It may be retried.
    assert (await stores.jobs.get(DEV, failed.id)).bucket == SECRETS["bucket"]


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_reader_may_set_the_time_to_live(stores, clock, is_done):
    job = sample_job(clock, retention_ms=3_600_000)
    await stores.jobs.enqueue(job)
    claim = await claim_one(stores)
    clock.advance(s=5)
    if is_done:
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert (await stores.jobs.set_ttl(DEV, job.id, 6_000)).expires_ms == clock.now_ms() + 6_000
    clock.advance(s=2)
    if not is_done:
        await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(ms=3_999)
    assert (await stores.jobs.get(DEV, job.id)).status is JobStatus.COMPLETED
    clock.advance(ms=1)
    await is_gone(stores, job)
    with pytest.raises(UnknownJob):
        await stores.jobs.set_ttl(DEV, job.id, 6_000)


async def test_the_same_name_and_body_get_the_same_job(stores, clock):
    first = await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    assert await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash")) == first
    claim = await claim_one(stores)
    await stores.claims.finish(first.id, "worker-a", claim.token, Completed(OUTPUT))
    again = await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    assert (again.id, again.status) == (first.id, JobStatus.COMPLETED)
    assert (await stores.jobs.counts(DEV)).in_queue == 0


async def test_the_same_name_with_another_body_is_refused(stores, clock):
    await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    with pytest.raises(Conflict, match="'order-1' was used with another request body"):
        await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "other"))
    assert (await stores.jobs.counts(DEV)).in_queue == 1


async def test_a_name_belongs_to_one_key_and_endpoint(stores, clock):
    jobs = [
        sample_job(clock),
        sample_job(clock, key_id="key-2"),
        sample_job(clock, endpoint_id=SCHNELL),
    ]
    for number, job in enumerate(jobs):
        once = IdempotencyKey("order-1", f"hash-{number}")
        assert await stores.jobs.find_submitted(job.endpoint_id, job.key_id, once) is None
        assert (await stores.jobs.enqueue(job, once)).id == job.id
        assert await stores.jobs.find_submitted(job.endpoint_id, job.key_id, once) == job


async def test_a_name_outlives_the_result_and_even_the_record_of_its_job_by_far(stores, clock):
    once = IdempotencyKey("order-1", "hash")
    job = sample_job(clock, retention_ms=60_000)
    await stores.jobs.enqueue(job, once)
    claim = await claim_one(stores)
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(s=60)
    # Not erased yet, erased, and forgotten.
    for status, then in (
        ("COMPLETED", stores.retention.erase_expired()),
        ("COMPLETED", stores.retention.forget(clock.now_ms())),
        (None, None),
    ):
        for verb in (stores.jobs.enqueue(sample_job(clock), once), stores.jobs.find_submitted(DEV, job.key_id, once)):
            with pytest.raises(ResultErased) as caught:
                await verb
            assert (caught.value.job_id, caught.value.status) == (job.id, status)
            assert f"'order-1' made the job {job.id}" in str(caught.value)
        with pytest.raises(Conflict):
            await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "other"))
        if then is not None:
            await then
    assert (await stores.jobs.counts(DEV)).in_queue == 0
    clock.advance(ms=job.created_ms + IDEMPOTENCY_KEY_LIFE_MS - 1 - clock.now_ms())
    with pytest.raises(ResultErased):
        await stores.jobs.find_submitted(DEV, job.key_id, once)
    clock.advance(ms=1)
    assert await stores.jobs.find_submitted(DEV, job.key_id, once) is None
    second = sample_job(clock)
    assert (await stores.jobs.enqueue(second, IdempotencyKey("order-1", "other"))).id == second.id


async def test_a_name_stays_taken_while_its_job_can_be_read(stores, clock):
    once = IdempotencyKey("order-1", "hash")
    job = sample_job(clock, retention_ms=None)
    await stores.jobs.enqueue(job, once)
    claim = await claim_one(stores)
    done = await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=40)
    await stores.retention.forget(clock.now_ms())
    assert await stores.jobs.find_submitted(DEV, job.key_id, once) == done


async def test_names_that_are_free_again_are_forgotten(stores, clock):
    for number in range(3):
        await stores.jobs.enqueue(
            sample_job(clock, expires_ms=clock.now_ms() + 1_000), IdempotencyKey(f"order-{number}", "hash")
        )
    clock.advance(days=1)
    await stores.jobs.enqueue(sample_job(clock), IdempotencyKey("order-3", "hash"))
    await stores.retention.forget(clock.now_ms())
    names = await stores.database.read(
        lambda connection: list(connection.scalars(select(idempotency_keys.c.name_hash)))
    )
    assert names == [hashlib.sha256(b"order-3").hexdigest()]


async def test_many_at_once_with_one_name_make_one_job(stores, open_another, clock):
    other = await open_another()
    sent = [place.jobs.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash")) for place in (stores, other) * 8]
    assert len({job.id for job in await asyncio.gather(*sent)}) == 1
    assert (await stores.jobs.counts(DEV)).in_queue == 1


async def test_a_sweep_and_a_ping_at_once_never_wait_for_each_other_in_a_circle(stores, open_another, clock):
    other = await open_another()
    for _ in range(60):
        # Some have lost their lease only, the others have run for too long as well: the sweep ends them in two ways.
        jobs = [sample_job(clock, policy=Policy(execution_timeout_ms=605_000 - 600_000 * (n % 2))) for n in range(6)]
        for job in jobs:
            await stores.jobs.enqueue(job)
        await stores.claims.claim("worker-a", [DEV], len(jobs), lease_s=5)
        clock.advance(s=6)
        await asyncio.gather(stores.claims.sweep(1), other.claims.renew("worker-a", [job.id for job in jobs], LEASE_S))
        await stores.jobs.purge(DEV)
        await stores.claims.release("worker-a", counts_as_retry=False, max_retries=1)
        await stores.jobs.purge(DEV)
