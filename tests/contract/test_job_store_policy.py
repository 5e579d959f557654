"""The contract of `JobStore` about time and names: timeouts, time to live, retention, idempotency."""

import asyncio
import hashlib

import pytest
from sqlalchemy import select

from flux_endpoint.core.envelope import IDEMPOTENCY_KEY_LIFE_MS
from flux_endpoint.core.errors import Conflict, LeaseLost, ResultErased, UnknownJob
from flux_endpoint.core.job import DEFAULT_TTL_MS, Completed, Failed, IdempotencyKey, JobStatus, Policy, SweepResult
from flux_endpoint.stores.sql.schema import idempotency_keys
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

OUTPUT = {"image_url": "x"}
SECRETS = {"webhook": "https://a.example/hook", "s3_config": {"accessId": "id", "accessSecret": "secret"}}


async def claim_one(store):
    (claim,) = await store.claim("worker-a", [DEV], 1, LEASE_S)
    return claim


async def is_gone(store, job):
    with pytest.raises(UnknownJob):
        await store.get(DEV, job.id)


async def test_everything_beside_the_input_is_read_back_as_it_was(store, clock):
    policy = Policy(execution_timeout_ms=5_000, ttl_ms=10_000, low_priority=True)
    job = sample_job(clock, policy=policy, retention_ms=1, expires_ms=clock.now_ms() + 9_000, **SECRETS)
    assert await store.enqueue(job) == job
    assert await store.get(DEV, job.id) == job


async def test_a_job_that_runs_too_long_is_timed_out_and_its_worker_told(store, clock):
    job = sample_job(clock, policy=Policy(execution_timeout_ms=5_000), retention_ms=60_000)
    await store.enqueue(job)
    clock.advance(s=100)
    claim = await claim_one(store)
    clock.advance(ms=4_999)
    assert await store.sweep(max_retries=1) == SweepResult()
    clock.advance(ms=1)
    assert await store.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    ended = await store.get(DEV, job.id)
    assert (ended.status, ended.execution_time_ms) == (JobStatus.TIMED_OUT, 5_000)
    assert ended.error == "the job ran longer than its policy.executionTimeout of 5000 ms"
    assert await store.wait_for_stops("worker-a", 0) == [job.id]
    assert await store.wait_for_stops("worker-a", 0) == []
    with pytest.raises(LeaseLost):
        await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert await store.entries() == []


async def test_a_timed_out_job_wakes_who_waits_for_it_and_can_be_retried(store, clock):
    job = sample_job(clock, policy=Policy(execution_timeout_ms=5_000))
    await store.enqueue(job)
    old = await claim_one(store)
    waiter = asyncio.create_task(store.wait(DEV, job.id, timeout_s=60))
    await asyncio.sleep(0)
    clock.advance(s=6)
    await store.sweep(max_retries=1)
    assert (await asyncio.wait_for(waiter, 4)).status is JobStatus.TIMED_OUT
    retried = await store.retry(DEV, job.id)
    assert (retried.status, retried.error) == (JobStatus.IN_QUEUE, None)
    assert retried.expires_ms == clock.now_ms() + DEFAULT_TTL_MS
    claim = await claim_one(store)
    assert await store.wait_for_stops("worker-a", 0) == []
    with pytest.raises(LeaseLost):
        await store.finish(job.id, "worker-a", old.token, Completed(OUTPUT))
    await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert [entry.job_id for entry in await store.entries()] == [job.id]


async def test_a_waiting_job_whose_time_is_over_vanishes_and_is_never_handed_out(store, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000)
    await store.enqueue(job)
    clock.advance(s=10)
    assert await store.claim("worker-a", [DEV], 1, LEASE_S) == []
    assert not await store.wait_for_work([DEV], timeout_s=0)
    await is_gone(store, job)
    for verb in (store.cancel, store.retry):
        with pytest.raises(UnknownJob):
            await verb(DEV, job.id)
    assert await store.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert (await store.counts(DEV)).failed == 1


async def test_a_running_job_whose_time_is_over_is_stopped(store, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000)
    await store.enqueue(job)
    await claim_one(store)
    clock.advance(s=40)
    # Its lease is over too: it is not put back into the queue.
    assert await store.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert await store.wait_for_stops("worker-a", 0) == [job.id]
    await is_gone(store, job)


async def test_a_result_that_nobody_can_read_is_not_charged(store, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000, retention_ms=60_000)
    await store.enqueue(job)
    claim = await claim_one(store)
    clock.advance(s=10)
    with pytest.raises(LeaseLost, match="time to live"):
        await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert await store.entries() == []
    await is_gone(store, job)
    assert await store.sweep(max_retries=1) == SweepResult(timed_out=(job.id,))
    assert await store.wait_for_stops("worker-a", 0) == [job.id]


async def test_a_result_that_can_still_be_read_is_charged(store, clock):
    job = sample_job(clock, policy=Policy(ttl_ms=10_000), expires_ms=clock.now_ms() + 10_000, retention_ms=60_000)
    await store.enqueue(job)
    claim = await claim_one(store)
    clock.advance(ms=9_998)
    await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert (await store.get(DEV, job.id)).output == OUTPUT
    assert [entry.job_id for entry in await store.entries()] == [job.id]


@pytest.mark.parametrize(
    ("retention_ms", "ttl_ms", "kept_ms"),
    [(60_000, None, 60_000), (60_000, 30_000, 20_000), (5_000, 30_000, 5_000), (None, 30_000, 20_000)],
)
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_ended_job_is_read_for_the_shorter_of_retention_and_time_to_live(
    store, clock, end, retention_ms, ttl_ms, kept_ms
):
    job = sample_job(clock, policy=Policy(ttl_ms=ttl_ms), retention_ms=retention_ms)
    await store.enqueue(job)
    claim = await claim_one(store)
    clock.advance(s=10)
    match end:
        case "completed":
            await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
        case "failed":
            await store.finish(job.id, "worker-a", claim.token, Failed("x"))
        case _:
            await store.cancel(DEV, job.id)
    clock.advance(ms=kept_ms - 1)
    assert (await store.get(DEV, job.id)).status == end.upper()
    clock.advance(ms=1)
    await is_gone(store, job)


async def test_without_retention_a_job_is_kept_for_ever(store, clock):
    job = sample_job(clock, expires_ms=clock.now_ms() + DEFAULT_TTL_MS)
    await store.enqueue(job)
    claim = await claim_one(store)
    await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=5_000)
    assert await store.erase_expired() == 0
    assert await store.forget(clock.now_ms()) == 0
    assert (await store.get(DEV, job.id)).output == OUTPUT


async def test_erasing_leaves_figures_only_and_forgetting_takes_them_too(store, clock):
    job = sample_job(clock, retention_ms=60_000, **SECRETS)
    await store.enqueue(job, IdempotencyKey("order-1", "hash"))
    claim = await claim_one(store)
    await store.append_chunk(job.id, "worker-a", claim.token, "private")
    await store.finish(job.id, "worker-a", claim.token, Failed("no memory"))
    assert await store.erase_expired() == 0
    clock.advance(s=60)
    assert await store.erase_expired() == 1
    assert await store.erase_expired() == 0
    assert (await store.counts(DEV)).failed == 1
    # Asked of the database itself: no verb shows an erased job.
    rows = await store._database.read(lambda c: c.exec_driver_sql("SELECT * FROM jobs").mappings().all())
    assert len(rows) == 1
    left = str(dict(rows[0]))
    for private in ("猫", "secret", "a.example", "order-1"):
        assert private not in left
    assert rows[0]["error"] == "no memory"
    assert (await store._database.read(lambda c: c.exec_driver_sql("SELECT * FROM chunks").all())) == []
    assert await store.forget(clock.now_ms() - 60_000) == 0
    assert await store.forget(clock.now_ms()) == 1
    assert (await store.counts(DEV)).failed == 0


async def test_erasing_and_forgetting_have_no_limit(store, clock):
    fields = {"status": JobStatus.FAILED, "finished_ms": 1, "error": "no", "expires_ms": clock.now_ms()}
    ended = [sample_job(clock, **fields) for _ in range(1_001)]
    for start in range(0, len(ended), 50):
        await asyncio.gather(*(store.enqueue(job) for job in ended[start : start + 50]))
    assert await store.erase_expired() == 1_001
    assert await store.forget(2) == 1_001
    assert (await store.counts(DEV)).failed == 0


async def test_charges_outlive_their_jobs(store, clock):
    job = sample_job(clock, retention_ms=1_000)
    await store.enqueue(job)
    claim = await claim_one(store)
    await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=1)
    await store.erase_expired()
    await store.forget(clock.now_ms())
    assert [entry.job_id for entry in await store.entries()] == [job.id]


async def test_credentials_are_dropped_when_nobody_needs_them_any_more(store, clock):
    completed, failed = (sample_job(clock, **SECRETS) for _ in range(2))
    for job, outcome in ((completed, Completed(OUTPUT)), (failed, Failed("x"))):
        await store.enqueue(job)
        claim = await claim_one(store)
        await store.finish(job.id, "worker-a", claim.token, outcome)
    assert (await store.get(DEV, completed.id)).s3_config is None
    # It may be retried.
    assert (await store.get(DEV, failed.id)).s3_config == SECRETS["s3_config"]


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_reader_may_set_the_time_to_live(store, clock, is_done):
    job = sample_job(clock, retention_ms=3_600_000)
    await store.enqueue(job)
    claim = await claim_one(store)
    clock.advance(s=5)
    if is_done:
        await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    assert (await store.set_ttl(DEV, job.id, 6_000)).expires_ms == clock.now_ms() + 6_000
    clock.advance(s=2)
    if not is_done:
        await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(ms=3_999)
    assert (await store.get(DEV, job.id)).status is JobStatus.COMPLETED
    clock.advance(ms=1)
    await is_gone(store, job)
    with pytest.raises(UnknownJob):
        await store.set_ttl(DEV, job.id, 6_000)


async def test_the_same_name_and_body_get_the_same_job(store, clock):
    first = await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    assert await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash")) == first
    claim = await claim_one(store)
    await store.finish(first.id, "worker-a", claim.token, Completed(OUTPUT))
    again = await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    assert (again.id, again.status) == (first.id, JobStatus.COMPLETED)
    assert (await store.counts(DEV)).in_queue == 0


async def test_the_same_name_with_another_body_is_refused(store, clock):
    await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash"))
    with pytest.raises(Conflict, match="'order-1' was used with another request body"):
        await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "other"))
    assert (await store.counts(DEV)).in_queue == 1


async def test_a_name_belongs_to_one_key_and_endpoint(store, clock):
    jobs = [
        sample_job(clock),
        sample_job(clock, key_id="key-2"),
        sample_job(clock, endpoint_id=SCHNELL),
    ]
    for number, job in enumerate(jobs):
        once = IdempotencyKey("order-1", f"hash-{number}")
        assert await store.find_submitted(job.endpoint_id, job.key_id, once) is None
        assert (await store.enqueue(job, once)).id == job.id
        assert await store.find_submitted(job.endpoint_id, job.key_id, once) == job


async def test_a_name_outlives_the_result_and_even_the_record_of_its_job_by_far(store, clock):
    once = IdempotencyKey("order-1", "hash")
    job = sample_job(clock, retention_ms=60_000)
    await store.enqueue(job, once)
    claim = await claim_one(store)
    await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(s=60)
    # Not erased yet, erased, and forgotten.
    for status, then in (
        ("COMPLETED", store.erase_expired),
        ("COMPLETED", lambda: store.forget(clock.now_ms())),
        (None, store.erase_expired),
    ):
        for verb in (store.enqueue(sample_job(clock), once), store.find_submitted(DEV, job.key_id, once)):
            with pytest.raises(ResultErased) as caught:
                await verb
            assert (caught.value.job_id, caught.value.status) == (job.id, status)
            assert f"'order-1' made the job {job.id}" in str(caught.value)
        with pytest.raises(Conflict):
            await store.enqueue(sample_job(clock), IdempotencyKey("order-1", "other"))
        assert await then() == (status is not None)
    assert (await store.counts(DEV)).in_queue == 0
    clock.advance(ms=job.created_ms + IDEMPOTENCY_KEY_LIFE_MS - 1 - clock.now_ms())
    with pytest.raises(ResultErased):
        await store.find_submitted(DEV, job.key_id, once)
    clock.advance(ms=1)
    assert await store.find_submitted(DEV, job.key_id, once) is None
    second = sample_job(clock)
    assert (await store.enqueue(second, IdempotencyKey("order-1", "other"))).id == second.id


async def test_a_name_stays_taken_while_its_job_can_be_read(store, clock):
    once = IdempotencyKey("order-1", "hash")
    job = sample_job(clock, retention_ms=None)
    await store.enqueue(job, once)
    claim = await claim_one(store)
    done = await store.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))
    clock.advance(days=40)
    await store.forget(clock.now_ms())
    assert await store.find_submitted(DEV, job.key_id, once) == done


async def test_names_that_are_free_again_are_forgotten(store, clock):
    for number in range(3):
        await store.enqueue(
            sample_job(clock, expires_ms=clock.now_ms() + 1_000), IdempotencyKey(f"order-{number}", "hash")
        )
    clock.advance(days=1)
    await store.enqueue(sample_job(clock), IdempotencyKey("order-3", "hash"))
    await store.forget(clock.now_ms())
    names = await store._database.read(
        lambda connection: list(connection.scalars(select(idempotency_keys.c.name_hash)))
    )
    assert names == [hashlib.sha256(b"order-3").hexdigest()]


async def test_many_at_once_with_one_name_make_one_job(store, open_another, clock):
    other = await open_another()
    sent = [place.enqueue(sample_job(clock), IdempotencyKey("order-1", "hash")) for place in (store, other) * 8]
    assert len({job.id for job in await asyncio.gather(*sent)}) == 1
    assert (await store.counts(DEV)).in_queue == 1


async def test_a_sweep_and_a_ping_at_once_never_wait_for_each_other_in_a_circle(store, open_another, clock):
    other = await open_another()
    for _ in range(60):
        # Some have lost their lease only, the others have run for too long as well: the sweep ends them in two ways.
        jobs = [sample_job(clock, policy=Policy(execution_timeout_ms=605_000 - 600_000 * (n % 2))) for n in range(6)]
        for job in jobs:
            await store.enqueue(job)
        await store.claim("worker-a", [DEV], len(jobs), lease_s=5)
        clock.advance(s=6)
        await asyncio.gather(store.sweep(1), other.renew("worker-a", [job.id for job in jobs], LEASE_S))
        await store.purge(DEV)
        await store.release("worker-a", counts_as_retry=False, max_retries=1)
        await store.purge(DEV)
