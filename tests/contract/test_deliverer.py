"""The deliverer at work beside others: nobody waits for a slow receiver, signals wake it, its end loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.webhook import DeliveryState
from flux_endpoint.outbound.protocol import Answer
from flux_endpoint.service.webhooks import MAX_AT_ONCE, MAX_PER_HOST, Deliverer
from tests.contract.samples import DEV, sample_job
from tests.outbox import Outbox

pytestmark = pytest.mark.anyio

# Of one key alone: half of the host's places.
MAX_PER_KEY_AND_HOST = MAX_PER_HOST // 2
SLOW, QUICK = "http://slow.example/", "http://quick.example/"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    # What differs between databases is in test_outbox.py.
    return sqlite_url


class Sender:
    """Answers at once, but for slow hosts: these answer when they are told to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.codes: list[int] = []
        self.slow_is_done = asyncio.Event()
        self.changed = asyncio.Condition()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        async with self.changed:
            self.sent.append(url)
            self.changed.notify_all()
        if "slow" in url:
            await self.slow_is_done.wait()
        return Answer(self.codes.pop() if self.codes else 200, b"")

    async def wait_sent(self, url: str, times: int) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: self.sent.count(url) >= times)


@asynccontextmanager
async def running(stores, sender, clock) -> AsyncIterator[Deliverer]:
    deliverer = Deliverer(stores.webhooks, sender, lambda job: {"id": job.id}, clock, "gateway-1")
    task = asyncio.create_task(deliverer.run())
    try:
        yield deliverer
    finally:
        task.cancel()
        await asyncio.wait({task})


async def end(stores, clock, url: str, times: int = 1, key: str = "key-1") -> None:
    for _ in range(times):
        job = sample_job(clock, webhook=url, key_id=key)
        await stores.jobs.enqueue(job)
        await stores.jobs.cancel(DEV, job.id)


async def states(stores) -> list[DeliveryState]:
    return [record.state for record in await stores.webhooks.deliveries(limit=100)]


async def test_a_slow_receiver_holds_up_nobody_but_itself(stores, clock):
    sender = Sender()
    await end(stores, clock, SLOW, 3 * MAX_PER_KEY_AND_HOST)
    async with running(stores, sender, clock):
        await sender.wait_sent(SLOW, MAX_PER_KEY_AND_HOST)
        await end(stores, clock, QUICK, 3)
        await sender.wait_sent(QUICK, 3)
        assert sender.sent.count(SLOW) < 2 * MAX_PER_KEY_AND_HOST
        sender.slow_is_done.set()
        await sender.wait_sent(SLOW, 3 * MAX_PER_KEY_AND_HOST)
    assert await states(stores) == [DeliveryState.DELIVERED] * (3 + 3 * MAX_PER_KEY_AND_HOST)


async def test_a_key_with_slow_receivers_on_many_hosts_holds_up_nobody_else(stores, clock):
    sender = Sender()
    for number in range(100):
        await end(stores, clock, f"http://slow{number}.example/")
    async with running(stores, sender, clock):
        await sender.wait_sent("http://slow31.example/", 1)
        await end(stores, clock, QUICK, 40, key="key-2")
        await sender.wait_sent(QUICK, 40)
        assert len(sender.sent) == MAX_AT_ONCE // 2 + 40
        sender.slow_is_done.set()
        await sender.wait_sent("http://slow99.example/", 1)


async def test_a_paused_receiver_is_told_in_the_log_once(stores, clock, caplog):
    sender = Sender()
    sender.codes = [503] * 7
    outbox = Outbox(stores.webhooks)
    outbox.deliverer = Deliverer(outbox, sender, lambda job: {"id": job.id}, clock, "gateway-1")
    await end(stores, clock, QUICK + "?token=geheim", 7)
    for _ in range(4):
        await outbox.send_due()
        clock.advance(s=60)
    assert await states(stores) == [DeliveryState.DELIVERED] * 7
    told = [record.getMessage() for record in caplog.records if "webhooks of key" in record.getMessage()]
    assert told == [
        "webhooks of key key-1 to http://quick.example:80 are paused: 5 attempts in a row failed, the last one with: "
        "HTTP 503; exactly 200 counts as received; they are kept and tried one at a time until one is taken",
        "webhooks of key key-1 to http://quick.example:80 go on: one was taken",
    ]


async def test_what_was_on_its_way_at_the_end_is_sent_after_the_next_start(stores, clock):
    sender = Sender()
    await end(stores, clock, SLOW)
    async with running(stores, sender, clock):
        await sender.wait_sent(SLOW, 1)
    assert await states(stores) == [DeliveryState.WAITING]
    # Without waiting for a lease.
    async with running(stores, sender, clock):
        await sender.wait_sent(SLOW, 2)
        sender.slow_is_done.set()
    assert await states(stores) == [DeliveryState.DELIVERED]


async def test_what_a_killed_gateway_had_begun_is_sent_at_its_next_start(stores, clock):
    sender = Sender()
    await end(stores, clock, QUICK)
    await stores.webhooks.claim_due("gateway-1", 1, 1, 20_000)
    async with running(stores, sender, clock):
        await sender.wait_sent(QUICK, 1)


async def test_a_database_that_fails_for_a_moment_ends_nothing(stores, clock, monkeypatch):
    sender = Sender()
    claim_due, failures = stores.webhooks.claim_due, [StoreUnavailable("gone for a moment")]

    async def claim_or_fail(*arguments):
        if failures:
            raise failures.pop()
        return await claim_due(*arguments)

    monkeypatch.setattr(stores.webhooks, "claim_due", claim_or_fail)
    monkeypatch.setattr("flux_endpoint.service.webhooks._PAUSE_S", 0)
    await end(stores, clock, QUICK)
    async with running(stores, sender, clock):
        await sender.wait_sent(QUICK, 1)
    assert failures == []
