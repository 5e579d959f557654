"""Gateways on one PostgreSQL keep one set of rate limits between them."""

import asyncio
import random
from collections import deque

import pytest

from flux_endpoint.core.account import ApiKey, KeyLimits, Operation
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import TooManyRequests
from flux_endpoint.core.limits import RateRule
from flux_endpoint.service.limits import RateLimiter, SharedRates
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.rates.protocol import RateStore

pytestmark = pytest.mark.anyio

KEY = ApiKey("key-1", "laptop", created_ms=0)


@pytest.fixture
async def both(postgres_url: str, clock: ManualClock):
    stores = [await open_stores(postgres_url, clock, connections=4) for _ in range(2)]
    yield stores
    for each in stores:
        await each.close()


def limiters(both: list[Stores], clock: ManualClock, rule: RateRule) -> list[RateLimiter]:
    return [RateLimiter(clock, {Operation.RUN: rule}, SharedRates(each.rates, clock)) for each in both]


async def ask(limiter: RateLimiter, key: ApiKey = KEY) -> int | None:
    """None when a request is let in; else after how many seconds to come again."""
    await limiter.agree(key, "dev", Operation.RUN)
    try:
        limiter.enter(key, "dev", Operation.RUN)()
    except TooManyRequests as error:
        return error.retry_after_s
    return None


async def test_a_small_limit_is_exact_and_waiting_as_long_as_told_is_enough(both, clock):
    here, there = limiters(both, clock, RateRule(2))
    assert await ask(here) is None
    clock.advance(s=3)
    assert await ask(there) is None
    assert [await ask(here), await ask(there)] == [7, 7]
    clock.advance(s=7)
    assert await ask(there) is None
    assert [await ask(here), await ask(there)] == [3, 3]


async def test_of_those_who_come_at_the_same_moment_the_limit_is_let_in(both, clock):
    gateways = limiters(both, clock, RateRule(30))
    answers = await asyncio.gather(*(ask(gateways[number % 2]) for number in range(60)))
    assert answers.count(None) == 30


async def test_a_key_has_one_limit_of_its_own_at_all_gateways(both, clock):
    here, there = limiters(both, clock, RateRule())
    key = ApiKey("key-2", "guest", created_ms=0, limits=KeyLimits(requests_per_minute=3))
    assert [await ask(here, key), await ask(there, key), await ask(here, key)] == [None] * 3
    assert [await ask(here, key), await ask(there, key)] == [60, 60]
    clock.advance(s=60)
    assert await ask(there, key) is None


async def test_what_is_refused_is_not_counted_and_asks_nothing_of_the_database(both, clock):
    here, there = limiters(both, clock, RateRule(1))
    assert await ask(here) is None
    assert await ask(there) == 10
    await both[1].close()
    assert [await ask(there) for _ in range(20)] == [10] * 20


class Counted:
    """Passes on what a gateway tells, and counts how often it does."""

    def __init__(self, rates: RateStore):
        self.rates = rates
        self.exchanges = 0

    async def exchange(self, *args, **options):
        self.exchanges += 1
        return await self.rates.exchange(*args, **options)


async def test_a_big_limit_is_kept_to_within_two_percent_without_asking_each_time(both, clock):
    limit, window_ms = 200, 10_000
    counted = [Counted(each.rates) for each in both]
    gateways = [RateLimiter(clock, {Operation.RUN: RateRule(limit)}, SharedRates(rates, clock)) for rates in counted]
    draw = random.Random(3)
    let_in, full = deque(), 0
    for _ in range(1_500):
        clock.advance(ms=draw.randrange(60))
        # Now this one is busy, now that one, now both.
        gateway = draw.choices(gateways, weights=draw.choice([(1, 9), (9, 1), (1, 1)]))[0]
        is_let_in = await ask(gateway) is None
        while let_in and let_in[0] <= clock.monotonic_ms() - window_ms:
            let_in.popleft()
        if is_let_in:
            let_in.append(clock.monotonic_ms())
        else:
            # A few that the other gateway was told of late count a little longer.
            assert len(let_in) >= limit * 0.98 - 1
            full += 1
        assert len(let_in) <= limit * 1.02
    assert full > 100
    assert sum(each.exchanges for each in counted) < 1_500 / 3
