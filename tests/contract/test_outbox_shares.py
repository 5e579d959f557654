"""Who is sent what first, on both databases: shares of keys and hosts, and receivers that keep failing."""

import asyncio

import pytest
from sqlalchemy import text

from flux_endpoint.core.webhook import (
    FAILURES_TO_PAUSE,
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    PATIENCE_MS,
    Attempt,
    Delivery,
    DeliveryState,
    Turn,
)
from flux_endpoint.service.accounts import Accounts
from tests.contract.samples import DEV, sample_job

pytestmark = pytest.mark.anyio

LEASE_MS = 20_000
DELIVERED = Attempt(DeliveryState.DELIVERED, code=200)
HOOK = "https://slow.example/hook?token=geheim"
ORIGIN = "https://slow.example:443"


async def end(stores, clock, *urls: str, key: str = "key-1") -> None:
    for url in urls:
        job = sample_job(clock, webhook=url, key_id=key)
        await stores.jobs.enqueue(job)
        await stores.jobs.cancel(DEV, job.id)


async def claim(stores, gateway: str = "gateway-1", free: int = 64, per_host: int = 16) -> list[Delivery]:
    return list(await stores.webhooks.claim_due(gateway, free, per_host, LEASE_MS))


async def fail(stores, clock, delivery: Delivery) -> Turn | None:
    """An attempt that fails, as the deliverer reports it; never the last one."""
    return await stores.webhooks.report(
        delivery, Attempt(DeliveryState.WAITING, clock.now_ms() + 10_000, 503, "HTTP 503")
    )


async def pause(stores, clock, url: str = HOOK, key: str = "key-1") -> Turn | None:
    """Let a receiver fail until it is paused; leaves one message waiting for it."""
    await end(stores, clock, url, key=key)
    turn: Turn | None = Turn.NONE
    while turn is Turn.NONE:
        clock.advance(s=10)
        (delivery,) = [one for one in await claim(stores) if one.url == url]
        turn = await fail(stores, clock, delivery)
    return turn


async def test_one_keys_thousands_leave_room_for_another(stores, clock):
    await end(stores, clock, *(f"http://receiver{number}.example/" for number in range(150)))
    assert len(await claim(stores)) == 32
    await end(stores, clock, "http://quick.example/", key="key-2")
    # Later by far, and next.
    assert [one.url for one in await claim(stores, free=32)] == ["http://quick.example/"]


async def test_ports_and_spellings_of_one_host_share_its_places(stores, clock):
    spellings = ["http://127.0.0.1:80/", "http://127.1:81/", "http://2130706433:82/"]
    await end(stores, clock, *spellings * 8)
    assert len(await claim(stores)) == 8
    await end(stores, clock, *("http://127.0.0.1:90/",) * 30, key="key-2")
    assert len(await claim(stores)) == 4
    await end(stores, clock, "http://127.0.0.2/", key="key-2")
    assert [one.url for one in await claim(stores)] == ["http://127.0.0.2/"]


async def test_two_gateways_keep_the_shares_of_one(stores, open_another, clock):
    await end(stores, clock, *(HOOK,) * 40)
    await end(stores, clock, *(f"http://receiver{number}.example/" for number in range(150)))
    other = await open_another()
    claims = await asyncio.gather(*(claim(place, name) for place, name in ((stores, "a"), (other, "b")) * 2))
    claimed = [one for batch in claims for one in batch]
    assert len([one for one in claimed if one.url == HOOK]) == 8
    # Of 128 places: the first takes 32 of its own, and the other sees them.
    assert len({one.id for one in claimed}) == len(claimed) < 64
    await end(stores, clock, "http://quick.example/", key="key-2")
    assert len(await claim(other, "b", free=32)) == 1


async def test_waiting_is_for_what_may_be_sent(stores, clock):
    await end(stores, clock, *(HOOK,) * 20)
    held = await claim(stores)
    waiter = asyncio.create_task(stores.webhooks.wait_for_due(56, 16, 60))
    await asyncio.sleep(0.05)
    # Twelve are due, and its share is full.
    assert not waiter.done()
    waiter.cancel()
    await stores.webhooks.report(held[0], DELIVERED)
    async with asyncio.timeout(20):
        await stores.webhooks.wait_for_due(57, 16, 60)
    assert len(await claim(stores)) == 1


async def test_a_receiver_that_keeps_failing_is_paused_and_tried_with_one(stores, clock):
    assert await pause(stores, clock) is Turn.PAUSED
    await end(stores, clock, *(HOOK,) * 5)
    clock.advance(ms=FIRST_PAUSE_MS - 10)
    assert await claim(stores) == []
    clock.advance(ms=10)
    (probe,) = await claim(stores)
    assert await claim(stores) == []
    # Twice as long, and said once only.
    assert await fail(stores, clock, probe) is Turn.NONE
    clock.advance(ms=2 * FIRST_PAUSE_MS - 1)
    assert await claim(stores) == []
    clock.advance(ms=1)
    (probe,) = await claim(stores)
    assert await stores.webhooks.report(probe, DELIVERED) is Turn.BACK
    # All that waited goes on at once, and nothing was lost.
    assert len(await claim(stores)) == 5
    assert await stores.webhooks.paused_receivers() == []


async def test_pauses_grow_up_to_the_longest(stores, clock):
    await pause(stores, clock)
    for _ in range(9):
        clock.advance(ms=LONGEST_PAUSE_MS)
        (probe,) = await claim(stores)
        await fail(stores, clock, probe)
    clock.advance(ms=LONGEST_PAUSE_MS - 1)
    assert await claim(stores) == []
    clock.advance(ms=1)
    assert len(await claim(stores)) == 1


async def test_a_pause_is_of_one_key_and_port(stores, clock):
    await pause(stores, clock)
    await end(stores, clock, HOOK, key="key-2")
    await end(stores, clock, "https://slow.example:8443/")
    assert len(await claim(stores)) == 2


async def test_what_was_on_its_way_does_not_lengthen_the_pause(stores, clock):
    await end(stores, clock, *(HOOK,) * 8)
    turns = [await fail(stores, clock, one) for one in await claim(stores)]
    assert turns == [Turn.NONE] * (FAILURES_TO_PAUSE - 1) + [Turn.PAUSED] + [Turn.NONE] * 3
    clock.advance(ms=FIRST_PAUSE_MS)
    assert len(await claim(stores)) == 1


async def test_a_success_among_failures_pauses_nobody(stores, clock):
    await end(stores, clock, *(HOOK,) * 8)
    for number, delivery in enumerate(await claim(stores)):
        turn = await (stores.webhooks.report(delivery, DELIVERED) if number == 4 else fail(stores, clock, delivery))
        assert turn is Turn.NONE
    assert await stores.webhooks.paused_receivers() == []


async def test_a_refused_address_pauses_nobody(stores, clock):
    await end(stores, clock, *(HOOK,) * 8)
    for delivery in await claim(stores):
        assert await stores.webhooks.report(delivery, Attempt(DeliveryState.REFUSED, error="private")) is Turn.NONE


async def test_a_probe_lost_with_its_gateway_is_followed_by_another(stores, open_another, clock):
    await pause(stores, clock)
    clock.advance(ms=FIRST_PAUSE_MS)
    (lost,) = await claim(stores)
    clock.advance(ms=LEASE_MS)
    other = await open_another()
    (probe,) = await claim(other, "gateway-2")
    assert not await stores.webhooks.report(lost, DELIVERED)
    assert await other.webhooks.report(probe, DELIVERED) is Turn.BACK


async def test_two_gateways_report_failures_at_once(stores, open_another, clock):
    await end(stores, clock, *(HOOK,) * 8)
    other = await open_another()
    turns = await asyncio.gather(
        *(fail((stores, other)[number % 2], clock, one) for number, one in enumerate(await claim(stores)))
    )
    assert sorted(turns) == sorted([Turn.NONE] * 7 + [Turn.PAUSED])
    (paused,) = await stores.webhooks.paused_receivers()
    assert (paused.failures, paused.waiting) == (FAILURES_TO_PAUSE, 8)
    clock.advance(ms=FIRST_PAUSE_MS - 1)
    assert await claim(other) == []


async def test_after_a_day_what_waits_is_given_up_and_can_be_sent_again(stores, clock):
    await pause(stores, clock)
    await end(stores, clock, *(HOOK,) * 3)
    clock.advance(ms=PATIENCE_MS)
    (probe,) = await claim(stores)
    await fail(stores, clock, probe)
    records = await stores.webhooks.deliveries(limit=9, failed=True)
    assert len(records) == 4
    assert {record.error for record in records} == {"given up after 24 hours of failures: HTTP 503"}
    assert await claim(stores) == []
    # What comes later waits for the next try only.
    await end(stores, clock, HOOK)
    clock.advance(ms=LONGEST_PAUSE_MS)
    (probe,) = await claim(stores)
    await stores.webhooks.report(probe, DELIVERED)
    assert await stores.webhooks.replay_failed() == 4
    assert len(await claim(stores)) == 4


async def test_a_replay_is_tried_at_once_also_during_a_pause(stores, clock):
    await end(stores, clock, HOOK)
    (first,) = await claim(stores)
    await stores.webhooks.report(first, Attempt(DeliveryState.FAILED, error="HTTP 500"))
    await pause(stores, clock)
    await stores.webhooks.replay(first.id)
    (again,) = await claim(stores)
    assert again.id == first.id
    assert await stores.webhooks.report(again, DELIVERED) is Turn.BACK


async def test_the_owner_reads_who_is_paused(stores, clock):
    key, _ = await Accounts(stores.accounts, clock).create("shop")
    await pause(stores, clock, key=key.id)
    await pause(stores, clock, "http://other.example:81/", key="gone")
    await end(stores, clock, HOOK, key=key.id)
    first, second = await stores.webhooks.paused_receivers()
    assert (first.key_id, first.key_name, first.origin, first.waiting) == (key.id, "shop", ORIGIN, 2)
    assert (first.failures, first.error) == (FAILURES_TO_PAUSE, "HTTP 503")
    assert first.since_ms < first.until_ms
    assert (second.key_name, second.origin) == ("", "http://other.example:81")
    assert await stores.webhooks.paused_receivers(key.id) == [first]


async def test_receivers_nobody_sends_to_are_forgotten(stores, clock):
    await end(stores, clock, HOOK)
    (delivery,) = await claim(stores)
    await stores.webhooks.report(delivery, Attempt(DeliveryState.FAILED, error="HTTP 500"))
    await pause(stores, clock, "http://other.example/")
    clock.advance(days=31)
    await stores.retention.forget(clock.now_ms() - 1)
    rows = await stores.database.read(lambda c: c.execute(text("SELECT origin FROM webhook_receivers")))
    # Something waits for it.
    assert [row.origin for row in rows] == ["http://other.example:80"]
