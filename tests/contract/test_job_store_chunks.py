"""The contract of the chunks of `JobStore`, on every database."""

import asyncio

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Returned
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio


async def claimed_job(stores, clock, **changes):
    await stores.jobs.enqueue(sample_job(clock, **changes))
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    return claim


async def test_chunks_come_once_and_in_order(stores, clock):
    claim, other = await claimed_job(stores, clock), await claimed_job(stores, clock)
    chunks = [{"step": 1}, "ø \x00", [None, 1.5], False, 0]
    for chunk in chunks:
        await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, chunk)
    await stores.claims.append_chunk(other.job.id, "worker-a", None, "of another job")
    job, taken = await stores.jobs.take_chunks(DEV, claim.job.id, "key", 30)
    assert (job, taken) == (claim.job, chunks)
    assert await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0) == (claim.job, [])
    assert (await stores.jobs.take_chunks(DEV, other.job.id, "key", 0))[1] == ["of another job"]


async def test_each_key_gets_every_chunk(stores, clock):
    claim = await claimed_job(stores, clock)
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, 1)
    assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 30))[1] == [1]
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, 2)
    await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed(None))
    for key_id, chunks in (("key", [2]), ("another", [1, 2]), ("key", []), ("another", [])):
        job, taken = await stores.jobs.take_chunks(DEV, claim.job.id, key_id, 30)
        assert (job.status, taken) == (JobStatus.COMPLETED, chunks)


async def test_a_reader_may_keep_its_position_itself(stores, clock):
    claim = await claimed_job(stores, clock)
    assert await stores.jobs.chunks_after(DEV, claim.job.id, 0, 0) == (claim.job, [], 0)
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, 1)
    _, chunks, first = await stores.jobs.chunks_after(DEV, claim.job.id, 0, 30)
    assert (chunks, first > 0) == ([1], True)
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, 2)
    _, chunks, second = await stores.jobs.chunks_after(DEV, claim.job.id, first, 30)
    assert (chunks, second > first) == ([2], True)
    # As often as it likes, and nobody is the poorer for it.
    for position, rest in ((0, [1, 2]), (first, [2]), (second, [])):
        assert await stores.jobs.chunks_after(DEV, claim.job.id, position, 0) == (claim.job, rest, second)
    assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0))[1] == [1, 2]
    with pytest.raises(UnknownJob):
        await stores.jobs.chunks_after(SCHNELL, claim.job.id, 0, 0)


async def lose(stores, clock, claim, how):
    """Put the job back into the queue in one of the ways there are."""
    match how:
        case "lost lease":
            clock.advance(s=LEASE_S)
            await stores.claims.sweep(max_retries=1)
        case "dead worker":
            await stores.claims.release("worker-a", counts_as_retry=True, max_retries=1)
        case "given back":
            await stores.claims.finish(claim.job.id, "worker-a", claim.token, Returned())
        case "asked for again":
            await stores.claims.finish(claim.job.id, "worker-a", claim.token, Failed("no"))
            await stores.jobs.retry(DEV, claim.job.id)


@pytest.mark.parametrize("how", ["lost lease", "dead worker", "given back", "asked for again"])
async def test_chunks_of_an_attempt_that_is_over_are_not_shown(stores, clock, how):
    other = await claimed_job(stores, clock)
    claim = await claimed_job(stores, clock)
    await stores.claims.append_chunk(other.job.id, "worker-a", other.token, "of another job")
    for chunk in ("read", "unread"):
        await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, chunk)
        if chunk == "read":
            assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["read"]
            _, _, position = await stores.jobs.chunks_after(DEV, claim.job.id, 0, 0)
    await lose(stores, clock, claim, how)
    assert (await stores.jobs.chunks_after(DEV, claim.job.id, 0, 0))[1] == []
    again = next(one for one in await stores.claims.claim("worker-b", [DEV], 2, LEASE_S) if one.job.id == claim.job.id)
    for chunk in ("first", "second"):
        await stores.claims.append_chunk(claim.job.id, "worker-b", again.token, chunk)
    # Whoever had read from the last attempt misses nothing of this one.
    for key_id in ("key", "another"):
        assert (await stores.jobs.take_chunks(DEV, claim.job.id, key_id, 0))[1] == ["first", "second"]
    assert (await stores.jobs.chunks_after(DEV, claim.job.id, position, 0))[1] == ["first", "second"]
    if how != "lost lease" and how != "dead worker":
        assert (await stores.jobs.take_chunks(DEV, other.job.id, "key", 0))[1] == ["of another job"]


async def test_readers_with_one_key_split_the_stream(stores, clock):
    claim = await claimed_job(stores, clock)
    for number in range(20):
        await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, number)
    readers = await asyncio.gather(*(stores.jobs.take_chunks(DEV, claim.job.id, "key", 0) for _ in range(4)))
    assert sorted(chunk for _, chunks in readers for chunk in chunks) == list(range(20))


@pytest.mark.parametrize("news", ["chunk", "completed", "failed", "cancelled"])
async def test_a_reader_sleeps_until_a_chunk_or_the_end(stores, clock, news):
    claim = await claimed_job(stores, clock)
    reader = asyncio.create_task(stores.jobs.take_chunks(DEV, claim.job.id, "key", 30))
    await asyncio.sleep(0)
    match news:
        case "chunk":
            await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, 1)
        case "completed":
            await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
        case "failed":
            await stores.claims.finish(claim.job.id, "worker-a", claim.token, Failed("no"))
        case "cancelled":
            await stores.jobs.cancel(DEV, claim.job.id)
    job, chunks = await reader
    assert (job.status.is_terminal, chunks) == ((False, [1]) if news == "chunk" else (True, []))


async def test_only_the_holder_may_append(stores, clock):
    claim = await claimed_job(stores, clock)
    for worker_id, token in (("worker-b", None), ("worker-a", claim.token + 1)):
        with pytest.raises(LeaseLost):
            await stores.claims.append_chunk(claim.job.id, worker_id, token, 1)
    with pytest.raises(UnknownJob):
        await stores.claims.append_chunk("no-such-job", "worker-a", None, 1)
    with pytest.raises(UnknownJob):
        await stores.jobs.take_chunks(SCHNELL, claim.job.id, "key", 0)
    await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
    with pytest.raises(LeaseLost):
        await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, "late")
    assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0))[1] == []


async def test_chunks_are_forgotten_with_their_job(stores, clock):
    claim = await claimed_job(stores, clock, retention_ms=60_000)
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, "unread")
    assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["unread"]
    await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({"image_url": "x"}))
    clock.advance(days=8)
    assert await stores.retention.erase_expired() == 1
    assert (await stores.retention.forget(clock.now_ms())).jobs == 1
    # The same id again: what the old one left would show.
    await stores.jobs.enqueue(sample_job(clock, id=claim.job.id))
    job, chunks = await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0)
    assert (job.status, chunks) == (JobStatus.IN_QUEUE, [])
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, "new")
    assert (await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0))[1] == ["new"]


async def test_progress_comes_with_the_chunk_stays_with_the_job_and_goes_with_the_attempt(stores, clock):
    claim = await claimed_job(stores, clock)
    await stores.claims.append_chunk(
        claim.job.id, "worker-a", claim.token, "chunk", {"step": 1, "total": 2, "preview": "x"}
    )
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, "no progress")
    job, chunks = await stores.jobs.take_chunks(DEV, claim.job.id, "key", 0)
    assert (job.progress, chunks) == ({"step": 1, "total": 2, "preview": "x"}, ["chunk", "no progress"])
    await stores.claims.append_chunk(claim.job.id, "worker-a", claim.token, "chunk", {"step": 2, "total": 2})
    assert (await stores.jobs.get(DEV, claim.job.id)).progress == {"step": 2, "total": 2}
    with pytest.raises(LeaseLost):
        await stores.claims.append_chunk(claim.job.id, "worker-b", None, "chunk", {"step": 1, "total": 1})
    assert (await stores.jobs.get(DEV, claim.job.id)).progress == {"step": 2, "total": 2}
    await stores.claims.finish(claim.job.id, "worker-a", claim.token, Returned())
    assert (await stores.jobs.get(DEV, claim.job.id)).progress is None
