"""The contract of `BatchStore`, on every database."""

import asyncio
import uuid
from decimal import Decimal

import pytest

from flux_endpoint.api.dialects.runpod.submissions import new_batch_request_id
from flux_endpoint.core.account import ApiKey, KeyLimits
from flux_endpoint.core.batch import (
    BATCH_TTL_MS,
    DRAFT_LIFE_MS,
    MAX_ACTIVE_BATCHES,
    Batch,
    BatchCounts,
    BatchRequest,
    BatchStatus,
)
from flux_endpoint.core.errors import (
    Conflict,
    OverBudget,
    TooManyRequests,
    UnknownBatch,
    UnknownJob,
)
from flux_endpoint.core.job import Completed, Failed, JobStatus, Policy
from tests.contract.samples import COST_USD, DEV, LEASE_S, SCHNELL, sample_bucket, sample_job

pytestmark = pytest.mark.anyio
KEPT_MS = 86_400_000


def sample_requests(count, **changes):
    fields = {"input": {"prompt": "Żółć", "seed": 1}, "cost_usd": COST_USD, "policy": Policy()} | changes
    return [BatchRequest(new_batch_request_id(), **fields) for _ in range(count)]


async def draft(stores, clock, count=3, endpoint_id=DEV, key_id="key-1", **changes):
    """A new batch; returns it and the ids of its requests."""
    clock.advance(ms=1)
    requests = sample_requests(count, **changes)
    batch = await stores.batches.create_batch(
        Batch(f"batch_{uuid.uuid4()}", endpoint_id, BatchStatus.DRAFT, clock.now_ms(), key_id=key_id), requests
    )
    return batch, [request.id for request in requests]


async def finalized(stores, clock, count=3, **changes):
    batch, request_ids = await draft(stores, clock, count, **changes)
    return await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS), request_ids


async def finish(stores, outcome):
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    return await stores.claims.finish(claim.job.id, "w", claim.token, outcome)


async def statuses(stores, batch, offset=0, limit=100):
    listed, total = await stores.batches.list_requests(DEV, batch.id, offset, limit)
    return [(request_id, job and job.status.value) for request_id, job in listed], total


async def test_a_draft_is_collected_and_read(stores, clock):
    batch, request_ids = await draft(stores, clock, 2)
    assert batch == Batch(batch.id, DEV, BatchStatus.DRAFT, clock.now_ms(), counts=BatchCounts(total=2), key_id="key-1")
    more = sample_requests(2)
    batch = await stores.batches.add_requests(DEV, batch.id, more)
    assert batch.counts.total == 4
    ids = request_ids + [request.id for request in more]
    assert await statuses(stores, batch) == ([(request_id, None) for request_id in ids], 4)
    assert await statuses(stores, batch, 1, 2) == ([(request_id, None) for request_id in ids[1:3]], 4)
    await stores.batches.remove_request(DEV, batch.id, ids[1])
    assert await statuses(stores, batch) == ([(request_id, None) for request_id in ids[:1] + ids[2:]], 3)
    with pytest.raises(UnknownJob):
        await stores.batches.remove_request(DEV, batch.id, ids[1])
    assert await stores.batches.get_batch(DEV, batch.id) == await stores.batches.add_requests(DEV, batch.id, [])
    # Nothing of it is in the queue.
    assert await stores.claims.claim("w", [DEV], 9, LEASE_S) == []


async def test_attributes_are_set_and_taken_away(stores, clock):
    batch, _ = await draft(stores, clock)
    batch = await stores.batches.change_batch(DEV, batch.id, {"name": "a\x00b", "webhook": "https://example.com/"})
    # PostgreSQL cannot hold U+0000.
    name = batch.name
    assert name in ("a\x00b", "a\ufffdb")
    assert batch.webhook == "https://example.com/"
    batch = await stores.batches.change_batch(DEV, batch.id, {"webhook": None})
    assert (batch.name, batch.webhook) == (name, None)
    assert await stores.batches.change_batch(DEV, batch.id, {}) == batch


async def test_the_requests_become_jobs_as_if_they_had_been_sent(stores, clock):
    policy = Policy(execution_timeout_ms=7_000, ttl_ms=60_000, low_priority=True)
    batch, ids = await draft(stores, clock, 2, policy=policy, bucket=sample_bucket())
    own_hook = sample_requests(1, webhook="https://example.com/own", input={})
    await stores.batches.add_requests(DEV, batch.id, own_hook)
    await stores.batches.change_batch(DEV, batch.id, {"webhook": "https://example.com/all"})
    clock.advance(s=5)
    batch = await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    assert (batch.status, batch.counts) == (BatchStatus.FINALIZED, BatchCounts(total=3))
    now_ms = clock.now_ms()
    expected = sample_job(
        clock,
        id=ids[0],
        input={"prompt": "Żółć", "seed": 1},
        created_ms=now_ms,
        queued_ms=now_ms,
        policy=policy,
        webhook="https://example.com/all",
        bucket=sample_bucket(),
        retention_ms=KEPT_MS,
        expires_ms=now_ms + 60_000,
        batch_id=batch.id,
    )
    assert await stores.jobs.get(DEV, ids[0]) == expected
    last = await stores.jobs.get(DEV, own_hook[0].id)
    assert (last.webhook, last.input, last.expires_ms) == ("https://example.com/own", {}, now_ms + BATCH_TTL_MS)
    # In the order they were added, behind what waited before, and ahead of what comes later.
    later = sample_job(clock)
    await stores.jobs.enqueue(later)
    claims = await stores.claims.claim("w", [DEV], 9, LEASE_S)
    assert [claim.job.id for claim in claims] == [*ids, own_hook[0].id, later.id]
    assert claims[0].job.batch_id == batch.id


async def test_finalizing_wakes_the_workers_and_twice_is_once(stores, clock):
    batch, _ = await draft(stores, clock)
    waiting = asyncio.create_task(stores.claims.wait_for_jobs([DEV], 30))
    await asyncio.sleep(0)
    first = await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    async with asyncio.timeout(20):
        assert await waiting
    assert await stores.batches.finalize_batch(DEV, batch.id, "key-2", None) == first
    assert len(await stores.claims.claim("w", [DEV], 9, LEASE_S)) == 3


async def test_counts_come_from_the_jobs_and_failures_are_listed_first(stores, clock):
    batch, ids = await finalized(stores, clock, 6)
    await finish(stores, Completed({"image_url": "x"}))
    await finish(stores, Failed("no"))
    await stores.jobs.cancel(DEV, ids[2])
    await stores.claims.claim("w", [DEV], 1, LEASE_S)
    batch = await stores.batches.get_batch(DEV, batch.id)
    assert batch.counts == BatchCounts(total=6, in_progress=1, completed=1, failed=2)
    states = ["COMPLETED", "FAILED", "CANCELLED", "IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    expected = list(zip(ids, states, strict=True))
    expected.insert(0, expected.pop(1))
    assert await statuses(stores, batch) == (expected, 6)
    assert await statuses(stores, batch, 4, 1) == (expected[4:5], 6)
    assert await statuses(stores, batch, 6, 9) == ([], 6)
    # A retry moves it back among the others.
    await stores.jobs.retry(DEV, ids[1])
    assert (await stores.batches.get_batch(DEV, batch.id)).counts.failed == 1
    # They are charged as all jobs are.
    assert [entry.job_id for entry in await stores.accounts.entries()] == [ids[0]]


async def test_results_outlive_their_retention_as_figures_only(stores, clock):
    batch, ids = await finalized(stores, clock, 1)
    await finish(stores, Completed({"image_url": "x"}))
    ((_, job),), _ = await stores.batches.list_requests(DEV, batch.id, 0, 1)
    assert job.output == {"image_url": "x"}
    clock.advance(ms=KEPT_MS)
    for _ in range(2):
        ((_, job),), _ = await stores.batches.list_requests(DEV, batch.id, 0, 1)
        assert (job.id, job.status, job.output) == (ids[0], JobStatus.COMPLETED, None)
        await stores.retention.erase_expired()
    assert (await stores.batches.get_batch(DEV, batch.id)).counts == BatchCounts(total=1, completed=1)


async def test_a_draft_is_cancelled_with_its_requests(stores, clock):
    batch, _ = await draft(stores, clock)
    batch = await stores.batches.cancel_batch(DEV, batch.id)
    assert (batch.status, batch.counts) == (BatchStatus.CANCELLED, BatchCounts())
    assert await stores.batches.cancel_batch(DEV, batch.id) == batch
    assert await stores.claims.claim("w", [DEV], 9, LEASE_S) == []


async def test_what_waits_and_runs_is_cancelled_with_its_batch(stores, clock):
    batch, ids = await finalized(stores, clock, 3)
    other, _ = await finalized(stores, clock, 1)
    await finish(stores, Completed({"image_url": "x"}))
    (running,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    waiter = asyncio.create_task(stores.jobs.wait(DEV, ids[2], 30))
    await asyncio.sleep(0)
    batch = await stores.batches.cancel_batch(DEV, batch.id)
    assert (batch.status, batch.counts) == (BatchStatus.CANCELLED, BatchCounts(total=3, completed=1, failed=2))
    async with asyncio.timeout(20):
        assert (await waiter).status is JobStatus.CANCELLED
    assert await stores.claims.wait_for_stops("w", 30) == [running.job.id]
    assert (await stores.batches.get_batch(DEV, other.id)).counts == BatchCounts(total=1)


async def test_a_batch_that_is_done_is_not_cancelled(stores, clock):
    batch, _ = await finalized(stores, clock, 1)
    await finish(stores, Failed("no"))
    batch = await stores.batches.cancel_batch(DEV, batch.id)
    assert (batch.status, batch.counts) == (BatchStatus.FINALIZED, BatchCounts(total=1, failed=1))


@pytest.mark.parametrize("end", ["finalized", "cancelled"])
async def test_only_a_draft_can_be_changed(stores, clock, end):
    batch, ids = await draft(stores, clock)
    if end == "finalized":
        await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    else:
        await stores.batches.cancel_batch(DEV, batch.id)
        with pytest.raises(Conflict, match="is CANCELLED; only a DRAFT can be finalized"):
            await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    before = await stores.batches.get_batch(DEV, batch.id)
    for change in (
        stores.batches.change_batch(DEV, batch.id, {"name": "x"}),
        stores.batches.add_requests(DEV, batch.id, sample_requests(1)),
        stores.batches.remove_request(DEV, batch.id, ids[0]),
    ):
        with pytest.raises(Conflict, match="only a DRAFT can be"):
            await change
    assert await stores.batches.get_batch(DEV, batch.id) == before


async def test_an_empty_batch_cannot_be_finalized(stores, clock):
    batch, _ = await draft(stores, clock, 0)
    with pytest.raises(Conflict, match="has no requests"):
        await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    assert (await stores.batches.get_batch(DEV, batch.id)).status is BatchStatus.DRAFT


async def test_unknown_batches(stores, clock):
    batch, ids = await draft(stores, clock)
    for endpoint_id, batch_id in ((SCHNELL, batch.id), (DEV, "batch_x"), (DEV, "\x00")):
        for verb in (
            stores.batches.get_batch(endpoint_id, batch_id),
            stores.batches.change_batch(endpoint_id, batch_id, {}),
            stores.batches.add_requests(endpoint_id, batch_id, []),
            stores.batches.remove_request(endpoint_id, batch_id, ids[0]),
            stores.batches.list_requests(endpoint_id, batch_id, 0, 1),
            stores.batches.finalize_batch(endpoint_id, batch_id, "key-1", KEPT_MS),
            stores.batches.cancel_batch(endpoint_id, batch_id),
        ):
            with pytest.raises(UnknownBatch):
                await verb


async def test_batches_are_listed_newest_first_by_endpoint(stores, clock):
    batches = [(await draft(stores, clock, number))[0] for number in range(3)]
    await draft(stores, clock, endpoint_id=SCHNELL)
    assert await stores.batches.list_batches(DEV, 0, 9) == (batches[::-1], 3)
    assert await stores.batches.list_batches(DEV, 1, 1) == (batches[1:2], 3)
    assert await stores.batches.list_batches("elsewhere", 0, 9) == ([], 0)
    other, _ = await draft(stores, clock, key_id="key-2")
    assert await stores.batches.list_batches(DEV, 0, 9, "key-2") == ([other], 1)
    assert await stores.batches.list_batches(DEV, 0, 9, "key-1") == (batches[::-1], 3)


async def test_a_key_has_so_many_active_batches_on_an_endpoint_and_no_more(stores, clock):
    await finalized(stores, clock, 1)
    for _ in range(MAX_ACTIVE_BATCHES - 1):
        await draft(stores, clock, 0)
    with pytest.raises(Conflict, match="has 10 active batches"):
        await draft(stores, clock)
    await draft(stores, clock, endpoint_id=SCHNELL)
    await draft(stores, clock, key_id="key-2")
    # A batch that is done is not active, nor is one that was cancelled.
    await finish(stores, Completed({"image_url": "x"}))
    await draft(stores, clock)
    with pytest.raises(Conflict):
        await draft(stores, clock)
    (newest, *_), total = await stores.batches.list_batches(DEV, 0, 1, "key-1")
    assert total == MAX_ACTIVE_BATCHES + 1
    await stores.batches.cancel_batch(DEV, newest.id)
    await draft(stores, clock)


async def test_a_batch_has_so_many_requests_and_no_more(stores, clock, monkeypatch):
    monkeypatch.setattr("flux_endpoint.stores.batches.store.MAX_BATCH_REQUESTS", 3)
    batch, _ = await draft(stores, clock, 2)
    with pytest.raises(Conflict, match="at most 3 requests; this one has 2, and 2 more were sent"):
        await stores.batches.add_requests(DEV, batch.id, sample_requests(2))
    assert (await stores.batches.add_requests(DEV, batch.id, sample_requests(1))).counts.total == 3


async def test_an_endpoint_has_so_many_waiting_jobs_and_no_more(stores, clock, monkeypatch):
    monkeypatch.setattr("flux_endpoint.stores.batches.store.MAX_QUEUED_JOBS", 4)
    await finalized(stores, clock, 2)
    batch, _ = await draft(stores, clock, 3)
    with pytest.raises(TooManyRequests, match="2 jobs wait on the endpoint"):
        await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    assert (await stores.batches.get_batch(DEV, batch.id)).status is BatchStatus.DRAFT
    await finish(stores, Completed({"image_url": "x"}))
    assert (await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)).counts.total == 3


async def test_a_key_that_cannot_pay_for_all_pays_for_none(stores, clock):
    limits = KeyLimits(usd_per_month=COST_USD * 2)
    await stores.accounts.add_key(ApiKey("key-1", "team", clock.now_ms(), limits=limits), "hash")
    batch, ids = await draft(stores, clock, 3)
    with pytest.raises(OverBudget, match="this batch costs"):
        await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)
    assert (await stores.batches.get_batch(DEV, batch.id)).status is BatchStatus.DRAFT
    assert await stores.claims.claim("w", [DEV], 9, LEASE_S) == []
    await stores.batches.remove_request(DEV, batch.id, ids[0])
    assert (await stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS)).counts.total == 2
    assert Decimal(2) * COST_USD == limits.usd_per_month


async def test_two_who_finalize_and_one_who_adds_lose_nothing(stores, clock):
    batch, _ = await draft(stores, clock, 2)

    async def add():
        try:
            await stores.batches.add_requests(DEV, batch.id, sample_requests(1))
        except Conflict:
            return 0
        return 1

    added, *_ = await asyncio.gather(
        add(),
        stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS),
        stores.batches.finalize_batch(DEV, batch.id, "key-1", KEPT_MS),
    )
    assert (await stores.batches.get_batch(DEV, batch.id)).counts.total == 2 + added
    assert len(await stores.claims.claim("w", [DEV], 9, LEASE_S)) == 2 + added


async def test_drafts_nobody_finalized_are_given_up(stores, clock):
    old, _ = await draft(stores, clock)
    clock.advance(days=1)
    young, _ = await draft(stores, clock)
    clock.advance(ms=DRAFT_LIFE_MS - 3_600_000)
    await stores.retention.forget(0)
    old = await stores.batches.get_batch(DEV, old.id)
    assert (old.status, old.counts) == (BatchStatus.FAILED, BatchCounts())
    assert await stores.batches.get_batch(DEV, young.id) == young
    with pytest.raises(Conflict, match="is FAILED"):
        await stores.batches.finalize_batch(DEV, old.id, "key-1", KEPT_MS)


async def test_a_batch_is_forgotten_with_the_last_of_its_jobs(stores, clock):
    batch, ids = await finalized(stores, clock, 2)
    await finish(stores, Completed({"image_url": "x"}))
    clock.advance(days=2)
    await stores.retention.erase_expired()
    await stores.retention.forget(clock.now_ms())
    assert (await stores.batches.get_batch(DEV, batch.id)).counts == BatchCounts(total=1)
    await stores.jobs.cancel(DEV, ids[1])
    clock.advance(days=2)
    await stores.retention.erase_expired()
    await stores.retention.forget(clock.now_ms())
    with pytest.raises(UnknownBatch):
        await stores.batches.get_batch(DEV, batch.id)
