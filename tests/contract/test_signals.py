"""Who is woken by what: signals and their listeners, on every database."""

import asyncio

import pytest

from flux_endpoint.stores.sql.signals import Channel, Signals
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio


async def test_channels_vanish_with_their_last_listener(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    waiters = [asyncio.create_task(stores.jobs.wait(DEV, job.id, timeout_s=60)) for _ in range(3)]
    waiters.append(asyncio.create_task(stores.claims.wait_for_stops("w", timeout_s=0.01)))
    waiters.append(asyncio.create_task(stores.claims.wait_for_jobs(["elsewhere"], timeout_s=60)))
    await waiters[3]
    # One channel for the three who wait for the job, one for who waits for work; they listen before they look.
    assert len(stores.database.signals) == 2
    waiters[-1].cancel()
    await stores.jobs.cancel(DEV, job.id)
    await asyncio.gather(*waiters, return_exceptions=True)
    assert len(stores.database.signals) == 0


async def test_a_signal_between_looking_and_sleeping_is_heard():
    signals, channel = Signals(recheck_s=60), Channel("end of job", "x")
    with signals.listen(channel, timeout_s=60) as listener:
        signals.fire({channel: None})
        async with asyncio.timeout(20):
            assert await listener.sleep()
        # Heard once: the next sleep lasts.
        signals.fire({Channel("end of job", "y"): None})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await listener.sleep()
    signals.fire({channel: None})


async def test_every_listener_hears_and_one_listener_may_hear_many_channels():
    signals = Signals(recheck_s=60)
    left, right = Channel("work", "left"), Channel("work", "right")
    with signals.listen(left, right, left, timeout_s=60) as both, signals.listen(left, timeout_s=60) as one:
        signals.fire({left: None})
        async with asyncio.timeout(20):
            assert await asyncio.gather(both.sleep(), one.sleep()) == [True, True]
        signals.fire_all()
        async with asyncio.timeout(20):
            assert await asyncio.gather(both.sleep(), one.sleep()) == [True, True]
    assert len(signals) == 0


async def test_a_listener_looks_again_without_a_signal_and_once_more_at_the_end():
    async with asyncio.timeout(20):
        with Signals(recheck_s=0.01).listen(timeout_s=60) as listener:
            assert await listener.sleep()
        with Signals(recheck_s=60).listen(timeout_s=60) as listener:
            listener.hurry(0.01)
            assert await listener.sleep()
            while await listener.sleep():
                pass
        with Signals(recheck_s=60).listen(timeout_s=0) as listener:
            assert not await listener.sleep()


async def test_a_hold_in_which_nothing_happens_is_one_look(stores, monkeypatch):
    """Whoever is held asks again at once, and that begins with a look."""
    looks, read = [], stores.database.read

    async def counted(work, **options):
        looks.append(work)
        return await read(work, **options)

    monkeypatch.setattr(stores.database, "read", counted)
    assert not await stores.claims.wait_for_jobs([DEV], timeout_s=0.01)
    assert await stores.claims.wait_for_stops("w", timeout_s=0.01) == []
    assert len(looks) == 2


async def test_draining_answers_whoever_waits_with_what_there_is(stores, clock):
    job = sample_job(clock)
    await stores.jobs.enqueue(job)
    waiters = [
        asyncio.create_task(stores.jobs.wait(DEV, job.id, timeout_s=60)),
        asyncio.create_task(stores.jobs.take_chunks(DEV, job.id, "key", timeout_s=60)),
        asyncio.create_task(stores.jobs.chunks_after(DEV, job.id, 0, timeout_s=60)),
        asyncio.create_task(stores.claims.wait_for_jobs(["elsewhere"], timeout_s=60)),
        asyncio.create_task(stores.claims.wait_for_stops("w", timeout_s=60)),
    ]
    await asyncio.sleep(0)
    stores.drain()
    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiters) == [job, (job, []), (job, [], 0), False, []]
        # Nobody falls asleep any more; the rest works on.
        assert await stores.jobs.wait(DEV, job.id, timeout_s=60) == job
    assert len(await stores.claims.claim("w", [DEV], 1, LEASE_S)) == 1
