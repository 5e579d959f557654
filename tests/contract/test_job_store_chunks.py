"""The contract of the chunks of `JobStore`, on every database."""

import asyncio

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Returned
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio


async def claimed_job(store, clock, **changes):
    await store.enqueue(sample_job(clock, **changes))
    (claim,) = await store.claim("worker-a", [DEV], 1, LEASE_S)
    return claim


async def test_chunks_come_once_and_in_order(store, clock):
    claim, other = await claimed_job(store, clock), await claimed_job(store, clock)
    chunks = [{"step": 1}, "ø \x00", [None, 1.5], False, 0]
    for chunk in chunks:
        await store.append_chunk(claim.job.id, "worker-a", claim.token, chunk)
    await store.append_chunk(other.job.id, "worker-a", None, "of another job")
    job, taken = await store.take_chunks(DEV, claim.job.id, "key", 30)
    assert (job, taken) == (claim.job, chunks)
    assert await store.take_chunks(DEV, claim.job.id, "key", 0) == (claim.job, [])
    assert (await store.take_chunks(DEV, other.job.id, "key", 0))[1] == ["of another job"]


async def test_each_key_gets_every_chunk(store, clock):
    claim = await claimed_job(store, clock)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, 1)
    assert (await store.take_chunks(DEV, claim.job.id, "key", 30))[1] == [1]
    await store.append_chunk(claim.job.id, "worker-a", claim.token, 2)
    await store.finish(claim.job.id, "worker-a", claim.token, Completed(None))
    for key_id, chunks in (("key", [2]), ("another", [1, 2]), ("key", []), ("another", [])):
        job, taken = await store.take_chunks(DEV, claim.job.id, key_id, 30)
        assert (job.status, taken) == (JobStatus.COMPLETED, chunks)


async def test_a_reader_may_keep_its_position_itself(store, clock):
    claim = await claimed_job(store, clock)
    assert await store.chunks_after(DEV, claim.job.id, 0, 0) == (claim.job, [], 0)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, 1)
    _, chunks, first = await store.chunks_after(DEV, claim.job.id, 0, 30)
    assert (chunks, first > 0) == ([1], True)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, 2)
    _, chunks, second = await store.chunks_after(DEV, claim.job.id, first, 30)
    assert (chunks, second > first) == ([2], True)
    # As often as it likes, and nobody is the poorer for it.
    for position, rest in ((0, [1, 2]), (first, [2]), (second, [])):
        assert await store.chunks_after(DEV, claim.job.id, position, 0) == (claim.job, rest, second)
    assert (await store.take_chunks(DEV, claim.job.id, "key", 0))[1] == [1, 2]
    with pytest.raises(UnknownJob):
        await store.chunks_after(SCHNELL, claim.job.id, 0, 0)


async def lose(store, clock, claim, how):
    """Put the job back into the queue in one of the ways there are."""
    match how:
        case "lost lease":
            clock.advance(s=LEASE_S)
            await store.sweep(max_retries=1)
        case "dead worker":
            await store.release("worker-a", counts_as_retry=True, max_retries=1)
        case "given back":
            await store.finish(claim.job.id, "worker-a", claim.token, Returned())
        case "asked for again":
            await store.finish(claim.job.id, "worker-a", claim.token, Failed("no"))
            await store.retry(DEV, claim.job.id)


@pytest.mark.parametrize("how", ["lost lease", "dead worker", "given back", "asked for again"])
async def test_chunks_of_an_attempt_that_is_over_are_not_shown(store, clock, how):
    other = await claimed_job(store, clock)
    claim = await claimed_job(store, clock)
    await store.append_chunk(other.job.id, "worker-a", other.token, "of another job")
    for chunk in ("read", "unread"):
        await store.append_chunk(claim.job.id, "worker-a", claim.token, chunk)
        if chunk == "read":
            assert (await store.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["read"]
            _, _, position = await store.chunks_after(DEV, claim.job.id, 0, 0)
    await lose(store, clock, claim, how)
    assert (await store.chunks_after(DEV, claim.job.id, 0, 0))[1] == []
    again = next(one for one in await store.claim("worker-b", [DEV], 2, LEASE_S) if one.job.id == claim.job.id)
    for chunk in ("first", "second"):
        await store.append_chunk(claim.job.id, "worker-b", again.token, chunk)
    # Whoever had read from the last attempt misses nothing of this one.
    for key_id in ("key", "another"):
        assert (await store.take_chunks(DEV, claim.job.id, key_id, 0))[1] == ["first", "second"]
    assert (await store.chunks_after(DEV, claim.job.id, position, 0))[1] == ["first", "second"]
    if how != "lost lease" and how != "dead worker":
        assert (await store.take_chunks(DEV, other.job.id, "key", 0))[1] == ["of another job"]


async def test_readers_with_one_key_split_the_stream(store, clock):
    claim = await claimed_job(store, clock)
    for number in range(20):
        await store.append_chunk(claim.job.id, "worker-a", claim.token, number)
    readers = await asyncio.gather(*(store.take_chunks(DEV, claim.job.id, "key", 0) for _ in range(4)))
    assert sorted(chunk for _, chunks in readers for chunk in chunks) == list(range(20))


@pytest.mark.parametrize("news", ["chunk", "completed", "failed", "cancelled"])
async def test_a_reader_sleeps_until_a_chunk_or_the_end(store, clock, news):
    claim = await claimed_job(store, clock)
    reader = asyncio.create_task(store.take_chunks(DEV, claim.job.id, "key", 30))
    await asyncio.sleep(0)
    match news:
        case "chunk":
            await store.append_chunk(claim.job.id, "worker-a", claim.token, 1)
        case "completed":
            await store.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
        case "failed":
            await store.finish(claim.job.id, "worker-a", claim.token, Failed("no"))
        case "cancelled":
            await store.cancel(DEV, claim.job.id)
    job, chunks = await reader
    assert (job.status.is_terminal, chunks) == ((False, [1]) if news == "chunk" else (True, []))


async def test_only_the_holder_may_append(store, clock):
    claim = await claimed_job(store, clock)
    for worker_id, token in (("worker-b", None), ("worker-a", claim.token + 1)):
        with pytest.raises(LeaseLost):
            await store.append_chunk(claim.job.id, worker_id, token, 1)
    with pytest.raises(UnknownJob):
        await store.append_chunk("no-such-job", "worker-a", None, 1)
    with pytest.raises(UnknownJob):
        await store.take_chunks(SCHNELL, claim.job.id, "key", 0)
    await store.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
    with pytest.raises(LeaseLost):
        await store.append_chunk(claim.job.id, "worker-a", claim.token, "late")
    assert (await store.take_chunks(DEV, claim.job.id, "key", 0))[1] == []


async def test_chunks_are_forgotten_with_their_job(store, clock):
    claim = await claimed_job(store, clock, retention_ms=60_000)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, "unread")
    assert (await store.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["unread"]
    await store.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
    clock.advance(days=8)
    assert await store.erase_expired() == 1
    assert await store.forget(clock.now_ms()) == 1
    # The same id again: what the old one left would show.
    await store.enqueue(sample_job(clock, id=claim.job.id))
    job, chunks = await store.take_chunks(DEV, claim.job.id, "key", 0)
    assert (job.status, chunks) == (JobStatus.IN_QUEUE, [])
    (claim,) = await store.claim("worker-a", [DEV], 1, LEASE_S)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, "new")
    assert (await store.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["new"]


async def test_progress_comes_with_the_chunk_stays_with_the_job_and_goes_with_the_attempt(store, clock):
    claim = await claimed_job(store, clock)
    await store.append_chunk(claim.job.id, "worker-a", claim.token, "chunk", {"step": 1, "total": 2, "preview": "x"})
    await store.append_chunk(claim.job.id, "worker-a", claim.token, "no progress")
    job, chunks = await store.take_chunks(DEV, claim.job.id, "key", 0)
    assert (job.progress, chunks) == ({"step": 1, "total": 2, "preview": "x"}, ["chunk", "no progress"])
    await store.append_chunk(claim.job.id, "worker-a", claim.token, "chunk", {"step": 2, "total": 2})
    assert (await store.get(DEV, claim.job.id)).progress == {"step": 2, "total": 2}
    with pytest.raises(LeaseLost):
        await store.append_chunk(claim.job.id, "worker-b", None, "chunk", {"step": 1, "total": 1})
    assert (await store.get(DEV, claim.job.id)).progress == {"step": 2, "total": 2}
    await store.finish(claim.job.id, "worker-a", claim.token, Returned())
    assert (await store.get(DEV, claim.job.id)).progress is None
