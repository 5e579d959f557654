"""The contract of `AccountStore`, on every database."""

import asyncio
from decimal import Decimal

import pytest

from flux_endpoint.core.account import ApiKey, LedgerEntry
from flux_endpoint.core.job import Completed, Failed, JobStatus
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio


async def complete(stores, clock, **changes):
    job = sample_job(clock, **changes)
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("worker-a", [job.endpoint_id], 1, LEASE_S)
    clock.advance(s=1)
    await stores.claims.finish(job.id, "worker-a", claim.token, Completed({}))
    return job


async def test_a_key_is_found_by_the_hash_of_its_secret_only(stores):
    key = ApiKey(id="key-1", name="Łódź \U0001f98a", created_ms=5)
    await stores.accounts.add_key(key, "hash-1")
    assert await stores.accounts.find_key("hash-1") == key
    for other in ("hash-2", "HASH-1", "key-1", "", "hash-1\x00", "\ud800"):
        assert await stores.accounts.find_key(other) is None


async def test_a_revoked_key_is_found_as_revoked(stores):
    await stores.accounts.add_key(ApiKey("key-1", "one", created_ms=5), "hash-1")
    assert await stores.accounts.revoke_key("key-1", now_ms=9) is True
    assert await stores.accounts.revoke_key("key-1", now_ms=12) is True
    assert await stores.accounts.find_key("hash-1") == ApiKey("key-1", "one", created_ms=5, revoked_ms=9)


async def test_revoking_an_unknown_key_says_so(stores):
    await stores.accounts.add_key(ApiKey("key-1", "one", created_ms=5), "hash-1")
    assert await stores.accounts.revoke_key("key-2", now_ms=9) is False
    assert await stores.accounts.find_key("hash-1") == ApiKey("key-1", "one", created_ms=5)


async def test_an_id_and_a_hash_are_taken_once(stores):
    first = ApiKey("key-1", "one", created_ms=5)
    await stores.accounts.add_key(first, "hash-1")
    with pytest.raises(ValueError, match="refuses"):
        await stores.accounts.add_key(ApiKey("key-1", "two", created_ms=6), "hash-2")
    with pytest.raises(ValueError, match="refuses"):
        await stores.accounts.add_key(ApiKey("key-2", "two", created_ms=6), "hash-1")
    assert await stores.accounts.list_keys() == [first]


async def test_keys_are_listed_oldest_first(stores):
    keys = [ApiKey(f"key-{number}", "", created_ms=created_ms) for number, created_ms in enumerate([7, 5, 7, 6])]
    for key in keys:
        await stores.accounts.add_key(key, f"hash of {key.id}")
    assert [key.id for key in await stores.accounts.list_keys()] == ["key-1", "key-3", "key-0", "key-2"]


async def test_keys_outlive_the_process_and_reach_other_processes(stores, open_another):
    other = await open_another()
    key = ApiKey("key-1", "one", created_ms=5)
    await other.accounts.add_key(key, "hash-1")
    assert await stores.accounts.find_key("hash-1") == key
    await stores.close()
    assert await (await open_another()).accounts.find_key("hash-1") == key


async def test_an_empty_ledger(stores):
    assert await stores.accounts.entries() == []
    assert await stores.accounts.entries("key-1") == []
    assert await stores.accounts.list_keys() == []


async def test_every_completed_job_is_one_entry_of_its_key(stores, clock):
    first = await complete(stores, clock, key_id="key-1", cost_usd=Decimal("0.02097152"))
    first_ms = clock.now_ms()
    second = await complete(stores, clock, key_id="key-2", cost_usd=Decimal("0.00000001"), endpoint_id=SCHNELL)
    second_ms = clock.now_ms()
    third = await complete(stores, clock, key_id="key-1", cost_usd=Decimal("90000000000.12345678"))
    entries = [
        LedgerEntry(first.id, DEV, "key-1", first.cost_usd, first_ms),
        LedgerEntry(second.id, SCHNELL, "key-2", second.cost_usd, second_ms),
        LedgerEntry(third.id, DEV, "key-1", third.cost_usd, clock.now_ms()),
    ]
    assert await stores.accounts.entries() == entries
    assert await stores.accounts.entries("key-1") == [entries[0], entries[2]]
    assert await stores.accounts.entries("key-2") == [entries[1]]
    assert await stores.accounts.entries("key-3") == []


async def test_money_is_exact(stores, clock):
    for _ in range(10):
        await complete(stores, clock, cost_usd=Decimal("0.1"))
    assert sum(entry.amount_usd for entry in await stores.accounts.entries()) == Decimal(1)


async def test_an_amount_below_the_quantum_is_refused(stores, clock):
    with pytest.raises(ValueError, match="8 decimals"):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal("0.000000001")))


async def test_nothing_but_completion_is_charged(stores, clock):
    refused = sample_job(clock, status=JobStatus.FAILED, finished_ms=1, error="no")
    await stores.jobs.enqueue(refused)
    for _ in range(3):
        await stores.jobs.enqueue(sample_job(clock))
    failed, cancelled, lost = await stores.claims.claim("worker-a", [DEV], 3, LEASE_S)
    await stores.claims.finish(failed.job.id, "worker-a", 1, Failed("x"))
    await stores.jobs.cancel(DEV, cancelled.job.id)
    await stores.claims.release("worker-a", counts_as_retry=True, max_retries=0)
    assert (await stores.jobs.get(DEV, lost.job.id)).status is JobStatus.FAILED
    assert await stores.accounts.entries() == []


async def test_a_free_job_leaves_an_entry_too(stores, clock):
    job = await complete(stores, clock, cost_usd=Decimal(0))
    assert [(entry.job_id, entry.amount_usd) for entry in await stores.accounts.entries()] == [(job.id, 0)]


async def test_keys_can_be_added_while_jobs_are_running(stores, open_another, clock):
    other = await open_another()

    async def add(number):
        await other.accounts.add_key(ApiKey(f"key-{number}", "", created_ms=number), f"hash-{number}")

    await asyncio.gather(
        *(stores.jobs.enqueue(sample_job(clock)) for _ in range(40)),
        *(add(number) for number in range(40)),
    )
    assert len(await stores.accounts.list_keys()) == 40
    assert (await stores.jobs.counts(DEV)).in_queue == 40
