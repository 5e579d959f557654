"""The contract of `WebhookStore`, on both databases: written with the end of a job, handed out once, kept as said."""

import asyncio

import pytest
from sqlalchemy import text

from flux_endpoint.core.errors import NotFound, StoreUnavailable
from flux_endpoint.core.job import Completed, Failed, IdempotencyKey, JobStatus
from flux_endpoint.core.webhook import ROTATION_MS, Attempt, DeliveryState
from flux_endpoint.service.accounts import Accounts
from tests.contract.samples import DEV, LEASE_S, sample_bucket, sample_job

pytestmark = pytest.mark.anyio

HOOK = "https://u:p@a.example/hook?token=geheim"
DELIVERED = Attempt(DeliveryState.DELIVERED, code=200)
OUTPUT = {"image_url": "x", "note": "\u0000 and \U0001f98a"}


@pytest.fixture
async def key(stores, clock):
    return (await Accounts(stores.accounts, clock).create("one"))[0]


async def end_one(stores, clock, **changes):
    """A job with a webhook, COMPLETED; as it stands then."""
    job = sample_job(clock, webhook=HOOK, retention_ms=60_000, **changes)
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("worker-a", [job.endpoint_id], 1, LEASE_S)
    return await stores.claims.finish(job.id, "worker-a", claim.token, Completed(OUTPUT))


async def claim(stores, gateway="gateway-1", free=1_000, per_host=1_000):
    return list(await stores.webhooks.claim_due(gateway, free, per_host, 20_000))


async def test_a_delivery_is_the_job_at_its_end(stores, clock):
    ended = await end_one(stores, clock, bucket=sample_bucket(), dialect="other")
    assert ended.dialect == "other"
    (delivery,) = await claim(stores)
    assert delivery.job == ended
    assert (delivery.url, delivery.attempts) == (HOOK, 0)
    assert len(delivery.secrets) == 1
    (record,) = await stores.webhooks.deliveries(limit=9)
    assert (record.id, record.job_id, record.status) == (delivery.id, ended.id, JobStatus.COMPLETED)
    assert (record.shown_url, record.state) == ("https://a.example/hook", DeliveryState.WAITING)


async def test_the_snapshot_holds_no_credentials(stores, clock):
    job = sample_job(clock, webhook=HOOK, bucket=sample_bucket("their-secret"))
    await stores.jobs.enqueue(job, IdempotencyKey("order-1", "hash"))
    (held,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.claims.finish(job.id, "worker-a", held.token, Failed("x"))
    rows = await stores.database.read(lambda c: c.execute(text("SELECT job FROM webhook_deliveries")))
    assert "their-secret" not in str(rows)
    assert "order-1" not in str(rows)


async def test_nothing_is_noted_when_the_end_is_not(stores, clock):
    job = sample_job(clock, webhook=HOOK)
    await stores.jobs.enqueue(job)
    (held,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.database.write(lambda transaction: transaction.connection.execute(text("DROP TABLE ledger")))
    with pytest.raises(StoreUnavailable):
        await stores.claims.finish(job.id, "worker-a", held.token, Completed(OUTPUT))
    assert await stores.webhooks.deliveries(limit=9) == []


async def test_a_repeated_report_tells_once(stores, clock):
    job = sample_job(clock, webhook=HOOK)
    await stores.jobs.enqueue(job)
    (held,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    for _ in range(2):
        await stores.claims.finish(job.id, "worker-a", held.token, Completed(OUTPUT))
    await stores.jobs.cancel(DEV, job.id)
    assert len(await claim(stores)) == 1


async def test_gateways_on_one_database_share_the_work(stores, open_another, clock):
    for _ in range(12):
        await end_one(stores, clock)
    other = await open_another()
    # The fourth part of what is left, each time.
    claims = await asyncio.gather(
        *(claim(place, gateway, free=14) for place, gateway in ((stores, "gateway-1"), (other, "gateway-2")) * 8)
    )
    claimed = [delivery.id for batch in claims for delivery in batch]
    assert len(claimed) == len(set(claimed)) == 12
    assert sum(map(bool, claims)) > 1


async def test_the_longest_overdue_comes_first(stores, clock):
    ended = [await end_one(stores, clock, key_id=name) for name in ("first", "second", "third")]
    assert [(await claim(stores, free=1))[0].job.id for _ in ended] == [job.id for job in ended]


async def test_a_lost_claim_is_handed_out_again_and_its_report_refused(stores, open_another, clock):
    await end_one(stores, clock)
    (lost,) = await claim(stores)
    clock.advance(ms=19_999)
    other = await open_another()
    assert await claim(other, "gateway-2") == []
    clock.advance(ms=1)
    (again,) = await claim(other, "gateway-2")
    assert (again.id, again.attempts) == (lost.id, 0)
    assert not await stores.webhooks.report(lost, Attempt(DeliveryState.FAILED, error="late"))
    assert await other.webhooks.report(again, DELIVERED)
    assert not await other.webhooks.report(again, DELIVERED)
    (record,) = await stores.webhooks.deliveries(limit=9)
    assert (record.state, record.attempts, record.code, record.error) == (DeliveryState.DELIVERED, 1, 200, None)


async def test_what_a_gateway_held_is_due_as_soon_as_it_is_back(stores, clock):
    for name in ("first", "second", "third"):
        await end_one(stores, clock, key_id=name)
    await claim(stores, "gateway-1", free=1)
    await claim(stores, "gateway-2", free=1)
    (retried,) = await claim(stores, "gateway-1", free=1)
    await stores.webhooks.report(retried, Attempt(DeliveryState.WAITING, clock.now_ms() + 10_000, 500, "HTTP 500"))
    assert await stores.webhooks.release_due("gateway-1") == 1
    assert len(await claim(stores, "gateway-1")) == 1


async def test_another_try_waits_for_its_time(stores, clock):
    await end_one(stores, clock)
    (first,) = await claim(stores)
    await stores.webhooks.report(first, Attempt(DeliveryState.WAITING, clock.now_ms() + 10_000, 500, "HTTP 500"))
    clock.advance(ms=9_999)
    assert await claim(stores) == []
    clock.advance(ms=1)
    (second,) = await claim(stores)
    assert second.attempts == 1


async def test_the_end_of_a_job_wakes_who_waits_to_send(stores, clock):
    waiter = asyncio.create_task(stores.webhooks.wait_for_due(1, 1, 60))
    await asyncio.sleep(0.05)
    assert not waiter.done()
    await end_one(stores, clock)
    async with asyncio.timeout(20):
        await waiter
    # Due already: no sleep at all.
    async with asyncio.timeout(20):
        await stores.webhooks.wait_for_due(1, 1, 60)


async def test_who_waits_looks_again_and_comes_back_for_a_reason_only(stores, clock):
    stores.database.signals.recheck_s = 0.02
    waiter = asyncio.create_task(stores.webhooks.wait_for_due(1, 1, 60))
    await asyncio.sleep(0.2)
    assert not waiter.done()
    await end_one(stores, clock)
    async with asyncio.timeout(20):
        await waiter
    assert await claim(stores)
    await stores.webhooks.wait_for_due(1, 1, 0.05)


async def test_waiting_ends_when_something_becomes_due(stores, clock):
    await end_one(stores, clock)
    (delivery,) = await claim(stores)
    await stores.webhooks.report(delivery, Attempt(DeliveryState.WAITING, clock.now_ms() + 30, 500, "HTTP 500"))
    async with asyncio.timeout(20):
        await stores.webhooks.wait_for_due(1, 1, 60)


async def test_what_arrived_is_erased_with_its_job_and_what_did_not_is_kept(stores, clock):
    jobs = [await end_one(stores, clock) for _ in range(3)]
    first, second, third = await claim(stores)
    await stores.webhooks.report(first, DELIVERED)
    await stores.webhooks.report(second, Attempt(DeliveryState.FAILED, code=500, error="HTTP 500"))
    clock.advance(s=60)
    assert await stores.retention.erase_expired() == 3
    # Delivered after its job had gone.
    await stores.webhooks.report(third, DELIVERED)
    rows = await stores.database.read(
        lambda c: c.execute(text("SELECT id, job, url FROM webhook_deliveries ORDER BY seq"))
    )
    assert [(row.id, row.job is None, row.url is None) for row in rows] == [
        (first.id, True, True),
        (second.id, False, False),
        (third.id, True, True),
    ]
    kept = {record.id: record.can_replay for record in await stores.webhooks.deliveries(limit=9)}
    assert kept == {first.id: False, second.id: True, third.id: False}
    assert await stores.webhooks.replay_failed() == 1
    (again,) = await claim(stores)
    assert (again.id, again.job, again.attempts) == (second.id, jobs[1], 0)


async def test_the_log_is_filtered_limited_and_forgotten(stores, clock):
    jobs = [await end_one(stores, clock) for _ in range(4)]
    deliveries = await claim(stores)
    for delivery, state in zip(
        deliveries, (DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.REFUSED), strict=False
    ):
        await stores.webhooks.report(delivery, Attempt(state, error="x"))
    newest_first = [job.id for job in reversed(jobs)]
    assert [record.job_id for record in await stores.webhooks.deliveries(limit=9)] == newest_first
    assert [record.job_id for record in await stores.webhooks.deliveries(limit=1)] == newest_first[:1]
    assert {record.state for record in await stores.webhooks.deliveries(limit=9, failed=True)} == {
        DeliveryState.FAILED,
        DeliveryState.REFUSED,
    }
    assert len(await stores.webhooks.deliveries(limit=9, job_id=jobs[0].id)) == 1
    assert await stores.webhooks.deliveries(limit=9, job_id=jobs[0].id, failed=True) == []
    clock.advance(s=1)
    assert (await stores.retention.forget(clock.now_ms())).webhooks == 3
    # What is on its way is never forgotten.
    assert [record.job_id for record in await stores.webhooks.deliveries(limit=9)] == [jobs[3].id]


async def test_a_secret_is_made_with_its_key_and_shown_as_often_as_asked(stores, key):
    secret = await stores.webhooks.webhook_secret(key.id)
    assert secret.secret.startswith("whsec_")
    assert await stores.webhooks.webhook_secret(key.id) == secret
    with pytest.raises(NotFound, match="no API key with the id 'none'"):
        await stores.webhooks.webhook_secret("none")
    with pytest.raises(NotFound):
        await stores.webhooks.rotate_webhook_secret("none")


async def test_a_key_from_before_gets_its_secret_at_first_need(stores, open_another, key, clock):
    await stores.database.write(lambda t: t.connection.execute(text("DELETE FROM webhook_secrets")))
    for _ in range(4):
        await end_one(stores, clock, key_id=key.id)
    other = await open_another()
    claims = await asyncio.gather(claim(stores, free=4), claim(other, "gateway-2", free=4))
    (secret,) = {secret for batch in claims for delivery in batch for secret in delivery.secrets}
    assert (await stores.webhooks.webhook_secret(key.id)).secret == secret


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_day(stores, key, clock):
    old = await stores.webhooks.webhook_secret(key.id)
    new = await stores.webhooks.rotate_webhook_secret(key.id)
    await end_one(stores, clock, key_id=key.id)
    (delivery,) = await claim(stores)
    assert delivery.secrets == [new.secret, old.secret]
    clock.advance(ms=ROTATION_MS)
    (delivery,) = await claim(stores)
    assert delivery.secrets == [new.secret]
    assert (await stores.webhooks.webhook_secret(key.id)).previous is None
