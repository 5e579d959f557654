"""The contract of `PictureStore`: whose a picture is while it is on its way, and who holds its job meanwhile."""

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.image_formats import new_image_key
from flux_endpoint.core.job import Completed, Failed, JobStatus, Returned
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio

WORKER, HOLDER = "worker-a", "gateway-1-uploads"


async def claim(stores, clock, worker_id=WORKER, **changes):
    await stores.jobs.enqueue(sample_job(clock, **changes))
    return await claim_again(stores, worker_id)


async def claim_again(stores, worker_id=WORKER):
    (claimed,) = await stores.claims.claim(worker_id, [DEV], 1, LEASE_S)
    return claimed


async def reserve(stores, claimed, worker_id=WORKER):
    keys = await stores.pictures.reserve_pictures(claimed.job.id, worker_id, claimed.token, [new_image_key("png")])
    return None if keys is None else keys[0]


async def hand_over(stores, claimed, worker_id=WORKER):
    return await stores.claims.hand_over(claimed.job.id, worker_id, claimed.token, HOLDER, LEASE_S)


async def orphans(stores, clock, older_than_s=0):
    return list(await stores.pictures.orphaned_pictures(clock.now_ms() - older_than_s * 1_000 + 1, 100))


async def test_a_claim_has_one_picture_however_often_it_is_handed_in(stores, clock):
    first = await claim(stores, clock)
    key = await reserve(stores, first)
    assert await reserve(stores, first) == key
    # Runpod's protocol has no place for the token.
    assert await stores.pictures.reserve_pictures(first.job.id, WORKER, None, [new_image_key("png")]) == [key]
    await stores.claims.finish(first.job.id, WORKER, first.token, Returned())
    second = await claim_again(stores)
    assert await reserve(stores, second) not in (None, key)


async def test_the_pictures_of_a_claim_are_named_all_together_or_are_all_orphans(stores, clock):
    claimed = await claim(stores, clock)
    reporter = (claimed.job.id, WORKER, claimed.token)
    asked = [new_image_key("png") for _ in range(3)]
    assert await stores.pictures.reserve_pictures(*reporter, asked) == asked
    assert await stores.pictures.reserve_pictures(*reporter, [new_image_key("png") for _ in range(3)]) == asked
    with pytest.raises(LeaseLost):
        await stores.claims.finish(*reporter, Completed({}, [*asked[:2], new_image_key("png")]))
    await stores.claims.finish(*reporter, Returned())
    assert sorted(await orphans(stores, clock)) == sorted(asked)
    again = await claim_again(stores)
    keys = [new_image_key("png") for _ in range(3)]
    await stores.pictures.reserve_pictures(again.job.id, WORKER, again.token, keys)
    await stores.claims.finish(again.job.id, WORKER, again.token, Completed({"image_keys": keys}, keys))
    assert sorted(await orphans(stores, clock)) == sorted(asked)


async def test_a_picture_is_reserved_only_by_who_holds_the_job(stores, clock):
    claimed = await claim(stores, clock)
    with pytest.raises(LeaseLost):
        await reserve(stores, claimed, "worker-b")
    with pytest.raises(LeaseLost):
        await stores.pictures.reserve_pictures(claimed.job.id, WORKER, claimed.token + 1, [new_image_key("png")])
    with pytest.raises(UnknownJob):
        await stores.pictures.reserve_pictures("nobody", WORKER, None, [new_image_key("png")])
    await stores.jobs.cancel(DEV, claimed.job.id)
    with pytest.raises(LeaseLost):
        await reserve(stores, claimed)
    assert await orphans(stores, clock) == []


async def test_a_named_picture_is_no_orphan_also_when_its_job_is_long_forgotten(stores, clock):
    claimed = await claim(stores, clock, retention_ms=1_000)
    key = await reserve(stores, claimed)
    assert await orphans(stores, clock) == []
    await stores.claims.finish(claimed.job.id, WORKER, claimed.token, Completed({"image_key": key}, [key]))
    # Handed in once more, because the answer was lost: there is nothing to save.
    assert await reserve(stores, claimed) is None
    with pytest.raises(LeaseLost):
        await reserve(stores, claimed, "worker-b")
    clock.advance(days=1)
    assert await stores.retention.erase_expired() == 1
    assert (await stores.retention.forget(clock.now_ms())).jobs == 1
    assert await orphans(stores, clock) == []


@pytest.mark.parametrize("end", ["lost", "cancelled", "failed", "returned"])
async def test_a_picture_that_no_job_names_is_an_orphan(stores, clock, end):
    claimed = await claim(stores, clock)
    key = await reserve(stores, claimed)
    if end == "lost":
        clock.advance(s=LEASE_S)
        await stores.claims.sweep(max_retries=1)
    elif end == "cancelled":
        await stores.jobs.cancel(DEV, claimed.job.id)
    else:
        outcome = Failed("no") if end == "failed" else Returned()
        await stores.claims.finish(claimed.job.id, WORKER, claimed.token, outcome)
    assert await orphans(stores, clock, older_than_s=600) == []
    clock.advance(s=601)
    assert await orphans(stores, clock, older_than_s=600) == [key]
    # The next attempt has a picture of its own.
    if end in ("lost", "returned"):
        again = await claim_again(stores, "worker-b")
        await reserve(stores, again, "worker-b")
        assert await orphans(stores, clock) == [key]
    await stores.pictures.forget_pictures([key])
    await stores.pictures.forget_pictures([])
    assert await orphans(stores, clock) == []


async def test_the_oldest_orphans_come_first_and_not_more_than_asked_for(stores, clock):
    keys = []
    for number in range(3):
        claimed = await claim(stores, clock, f"worker-{number}")
        keys.append(await reserve(stores, claimed, f"worker-{number}"))
        await stores.jobs.cancel(DEV, claimed.job.id)
    assert list(await stores.pictures.orphaned_pictures(clock.now_ms() + 1, 2)) == keys[:2]


async def test_a_job_is_not_completed_with_a_picture_that_is_not_its_own(stores, clock):
    other = await claim(stores, clock, "worker-b")
    others_key = await reserve(stores, other, "worker-b")
    claimed = await claim(stores, clock)
    for key in (others_key, new_image_key("png")):
        with pytest.raises(LeaseLost):
            await stores.claims.finish(claimed.job.id, WORKER, claimed.token, Completed({"image_key": key}, [key]))
    assert (await stores.jobs.get(DEV, claimed.job.id)).status is JobStatus.IN_PROGRESS
    assert await stores.accounts.entries() == []


async def test_a_job_in_other_hands_is_held_by_them_alone(stores, clock):
    claimed = await claim(stores, clock)
    held = await hand_over(stores, claimed)
    assert held is not None
    assert (held.status, held.worker_id, held.drawn_by) == (JobStatus.IN_PROGRESS, HOLDER, WORKER)
    assert (held.claim_token, held.last_worker_id) == (claimed.token, WORKER)
    # What the worker says now does not count, and its death is no concern of the job's.
    for outcome in (Completed("x"), Failed("x"), Returned()):
        with pytest.raises(LeaseLost):
            await stores.claims.finish(held.id, WORKER, claimed.token, outcome)
    assert await stores.claims.renew(WORKER, [held.id], LEASE_S) == {held.id}
    assert (await stores.claims.release(WORKER, counts_as_retry=True, max_retries=1)).requeued == ()
    assert (await stores.claims.release_worker(WORKER, counts_as_retry=True, max_retries=1)).requeued == ()
    assert await stores.workers.count_running_jobs() == {HOLDER: 1}
    clock.advance(s=LEASE_S - 1)
    assert await stores.claims.renew(HOLDER, [held.id], LEASE_S) == frozenset()
    clock.advance(s=LEASE_S - 1)
    await stores.claims.sweep(max_retries=1)
    done = await stores.claims.finish(held.id, HOLDER, held.claim_token, Completed({"image_url": "https://x"}))
    assert (done.status, done.last_worker_id, done.retries) == (JobStatus.COMPLETED, WORKER, 0)
    assert [entry.job_id for entry in await stores.accounts.entries()] == [held.id]


async def test_handing_over_twice_is_handing_over_once(stores, clock):
    claimed = await claim(stores, clock)
    held = await hand_over(stores, claimed)
    assert await hand_over(stores, claimed) is None
    assert await reserve(stores, claimed) is None
    with pytest.raises(LeaseLost):
        await hand_over(stores, claimed, "worker-b")
    with pytest.raises(UnknownJob):
        await stores.claims.hand_over("nobody", WORKER, None, HOLDER, LEASE_S)
    await stores.claims.finish(held.id, HOLDER, held.claim_token, Failed("the bucket is full"))
    assert await hand_over(stores, claimed) is None
    # Asked for again by its client, it is somebody else's.
    await stores.jobs.retry(DEV, held.id)
    again = await claim_again(stores, "worker-b")
    assert (again.job.drawn_by, again.job.last_worker_id) == (None, "worker-b")
    with pytest.raises(LeaseLost):
        await hand_over(stores, claimed)


async def test_whoever_holds_a_job_is_told_to_stop_it(stores, clock):
    for number in range(2):
        claimed = await claim(stores, clock)
        held = await hand_over(stores, claimed)
        if number:
            clock.advance(ms=held.policy.execution_timeout_ms)
            assert (await stores.claims.sweep(max_retries=1)).timed_out == (held.id,)
        else:
            await stores.jobs.cancel(DEV, held.id)
        assert await stores.claims.wait_for_stops(WORKER, 0) == []
        assert await stores.claims.wait_for_stops(HOLDER, 0) == [held.id]
        with pytest.raises(LeaseLost):
            await stores.claims.finish(held.id, HOLDER, held.claim_token, Completed("late"))
    assert await stores.accounts.entries() == []


async def test_what_a_dead_gateway_held_is_drawn_again(stores, clock):
    held = await hand_over(stores, await claim(stores, clock))
    clock.advance(s=LEASE_S)
    assert (await stores.claims.sweep(max_retries=1)).requeued == (held.id,)
    again = await claim_again(stores, "worker-b")
    assert (again.job.id, again.job.retries) == (held.id, 1)
    # After a restart it knows what it held, and takes the blame.
    await hand_over(stores, again, "worker-b")
    assert (await stores.claims.release("gateway-1-", counts_as_retry=False, max_retries=1)).requeued == (held.id,)
    assert (await claim_again(stores)).job.retries == 1
