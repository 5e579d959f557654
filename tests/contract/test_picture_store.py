"""The contract of `PictureStore`: whose a picture is while it is on its way, and who holds its job meanwhile."""

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.ids import new_image_key
from flux_endpoint.core.job import Completed, Failed, JobStatus, Returned
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio

WORKER, HOLDER = "worker-a", "gateway-1-uploads"


async def claim(store, clock, worker_id=WORKER, **changes):
    await store.enqueue(sample_job(clock, **changes))
    return await claim_again(store, worker_id)


async def claim_again(store, worker_id=WORKER):
    (claimed,) = await store.claim(worker_id, [DEV], 1, LEASE_S)
    return claimed


async def reserve(store, claimed, worker_id=WORKER):
    return await store.reserve_picture(claimed.job.id, worker_id, claimed.token, new_image_key("png"))


async def hand_over(store, claimed, worker_id=WORKER):
    return await store.hand_over(claimed.job.id, worker_id, claimed.token, HOLDER, LEASE_S)


async def orphans(store, clock, older_than_s=0):
    return list(await store.orphaned_pictures(clock.now_ms() - older_than_s * 1_000 + 1, 100))


async def test_a_claim_has_one_picture_however_often_it_is_handed_in(store, clock):
    first = await claim(store, clock)
    key = await reserve(store, first)
    assert await reserve(store, first) == key
    # Runpod's protocol has no place for the token.
    assert await store.reserve_picture(first.job.id, WORKER, None, new_image_key("png")) == key
    await store.finish(first.job.id, WORKER, first.token, Returned())
    second = await claim_again(store)
    assert await reserve(store, second) not in (None, key)


async def test_a_picture_is_reserved_only_by_who_holds_the_job(store, clock):
    claimed = await claim(store, clock)
    with pytest.raises(LeaseLost):
        await reserve(store, claimed, "worker-b")
    with pytest.raises(LeaseLost):
        await store.reserve_picture(claimed.job.id, WORKER, claimed.token + 1, new_image_key("png"))
    with pytest.raises(UnknownJob):
        await store.reserve_picture("nobody", WORKER, None, new_image_key("png"))
    await store.cancel(DEV, claimed.job.id)
    with pytest.raises(LeaseLost):
        await reserve(store, claimed)
    assert await orphans(store, clock) == []


async def test_a_named_picture_is_no_orphan_also_when_its_job_is_long_forgotten(store, clock):
    claimed = await claim(store, clock, retention_ms=1_000)
    key = await reserve(store, claimed)
    assert await orphans(store, clock) == []
    await store.finish(claimed.job.id, WORKER, claimed.token, Completed({"image_key": key}, picture=key))
    # Handed in once more, because the answer was lost: there is nothing to save.
    assert await reserve(store, claimed) is None
    with pytest.raises(LeaseLost):
        await reserve(store, claimed, "worker-b")
    clock.advance(days=1)
    assert await store.erase_expired() == 1
    assert await store.forget(clock.now_ms()) == 1
    assert await orphans(store, clock) == []


@pytest.mark.parametrize("end", ["lost", "cancelled", "failed", "returned"])
async def test_a_picture_that_no_job_names_is_an_orphan(store, clock, end):
    claimed = await claim(store, clock)
    key = await reserve(store, claimed)
    if end == "lost":
        clock.advance(s=LEASE_S)
        await store.sweep(max_retries=1)
    elif end == "cancelled":
        await store.cancel(DEV, claimed.job.id)
    else:
        outcome = Failed("no") if end == "failed" else Returned()
        await store.finish(claimed.job.id, WORKER, claimed.token, outcome)
    assert await orphans(store, clock, older_than_s=600) == []
    clock.advance(s=601)
    assert await orphans(store, clock, older_than_s=600) == [key]
    # The next attempt has a picture of its own.
    if end in ("lost", "returned"):
        again = await claim_again(store, "worker-b")
        await reserve(store, again, "worker-b")
        assert await orphans(store, clock) == [key]
    await store.forget_pictures([key])
    await store.forget_pictures([])
    assert await orphans(store, clock) == []


async def test_the_oldest_orphans_come_first_and_not_more_than_asked_for(store, clock):
    keys = []
    for number in range(3):
        claimed = await claim(store, clock, f"worker-{number}")
        keys.append(await reserve(store, claimed, f"worker-{number}"))
        await store.cancel(DEV, claimed.job.id)
    assert list(await store.orphaned_pictures(clock.now_ms() + 1, 2)) == keys[:2]


async def test_a_job_is_not_completed_with_a_picture_that_is_not_its_own(store, clock):
    other = await claim(store, clock, "worker-b")
    others_key = await reserve(store, other, "worker-b")
    claimed = await claim(store, clock)
    for key in (others_key, new_image_key("png")):
        with pytest.raises(LeaseLost):
            await store.finish(claimed.job.id, WORKER, claimed.token, Completed({"image_key": key}, picture=key))
    assert (await store.get(DEV, claimed.job.id)).status is JobStatus.IN_PROGRESS
    assert await store.entries() == []


async def test_a_job_in_other_hands_is_held_by_them_alone(store, clock):
    claimed = await claim(store, clock)
    held = await hand_over(store, claimed)
    assert held is not None
    assert (held.status, held.worker_id, held.drawn_by) == (JobStatus.IN_PROGRESS, HOLDER, WORKER)
    assert (held.claim_token, held.last_worker_id) == (claimed.token, WORKER)
    # What the worker says now does not count, and its death is no concern of the job's.
    for outcome in (Completed("x"), Failed("x"), Returned()):
        with pytest.raises(LeaseLost):
            await store.finish(held.id, WORKER, claimed.token, outcome)
    assert await store.renew(WORKER, [held.id], LEASE_S) == {held.id}
    assert (await store.release(WORKER, counts_as_retry=True, max_retries=1)).requeued == ()
    assert (await store.release_worker(WORKER, max_retries=1)).requeued == ()
    assert await store.count_running_jobs() == {HOLDER: 1}
    clock.advance(s=LEASE_S - 1)
    assert await store.renew(HOLDER, [held.id], LEASE_S) == frozenset()
    clock.advance(s=LEASE_S - 1)
    await store.sweep(max_retries=1)
    done = await store.finish(held.id, HOLDER, held.claim_token, Completed({"image_url": "https://x"}))
    assert (done.status, done.last_worker_id, done.retries) == (JobStatus.COMPLETED, WORKER, 0)
    assert [entry.job_id for entry in await store.entries()] == [held.id]


async def test_handing_over_twice_is_handing_over_once(store, clock):
    claimed = await claim(store, clock)
    held = await hand_over(store, claimed)
    assert await hand_over(store, claimed) is None
    assert await reserve(store, claimed) is None
    with pytest.raises(LeaseLost):
        await hand_over(store, claimed, "worker-b")
    with pytest.raises(UnknownJob):
        await store.hand_over("nobody", WORKER, None, HOLDER, LEASE_S)
    await store.finish(held.id, HOLDER, held.claim_token, Failed("the bucket is full"))
    assert await hand_over(store, claimed) is None
    # Asked for again by its client, it is somebody else's.
    await store.retry(DEV, held.id)
    again = await claim_again(store, "worker-b")
    assert (again.job.drawn_by, again.job.last_worker_id) == (None, "worker-b")
    with pytest.raises(LeaseLost):
        await hand_over(store, claimed)


async def test_whoever_holds_a_job_is_told_to_stop_it(store, clock):
    for number in range(2):
        claimed = await claim(store, clock)
        held = await hand_over(store, claimed)
        if number:
            clock.advance(ms=held.policy.execution_timeout_ms)
            assert (await store.sweep(max_retries=1)).timed_out == (held.id,)
        else:
            await store.cancel(DEV, held.id)
        assert await store.wait_for_stops(WORKER, 0) == []
        assert await store.wait_for_stops(HOLDER, 0) == [held.id]
        with pytest.raises(LeaseLost):
            await store.finish(held.id, HOLDER, held.claim_token, Completed("late"))
    assert await store.entries() == []


async def test_what_a_dead_gateway_held_is_drawn_again(store, clock):
    held = await hand_over(store, await claim(store, clock))
    clock.advance(s=LEASE_S)
    assert (await store.sweep(max_retries=1)).requeued == (held.id,)
    again = await claim_again(store, "worker-b")
    assert (again.job.id, again.job.retries) == (held.id, 1)
    # After a restart it knows what it held, and takes the blame.
    await hand_over(store, again, "worker-b")
    assert (await store.release("gateway-1-", counts_as_retry=False, max_retries=1)).requeued == (held.id,)
    assert (await claim_again(store)).job.retries == 1
