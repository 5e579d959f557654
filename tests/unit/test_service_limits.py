"""Rate limits, with a clock moved by hand."""

import random

import pytest

from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import TooManyRequests
from flux_endpoint.core.limits import DEFAULT_RULES, RateRule, parse_rules
from flux_endpoint.service.limits import RateLimiter

KEY = ApiKey("key-1", "laptop", created_ms=0)
OTHER_KEY = ApiKey("key-2", "phone", created_ms=0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def refusal(limiter: RateLimiter, operation: Operation = Operation.RUN, key: ApiKey = KEY) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        limiter.enter(key, "dev", operation)
    return caught.value


def test_the_limit_is_reached_and_lifted_to_the_millisecond(clock):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(3)})
    for _ in range(3):
        limiter.enter(KEY, "dev", Operation.RUN)
        clock.advance(s=1)
    error = refusal(limiter)
    assert error.retry_after_s == 7
    assert str(error) == "rate limit: at most 3 /run requests in 10 s with one API key; try again in 7 s"
    clock.advance(ms=6_999)
    assert refusal(limiter).retry_after_s == 1
    clock.advance(ms=1)
    limiter.enter(KEY, "dev", Operation.RUN)
    # The second of the three leaves the window a second after the first.
    assert refusal(limiter).retry_after_s == 1


def test_what_was_refused_is_not_counted(clock):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(1, 1)})
    leave = limiter.enter(KEY, "dev", Operation.RUN)
    for _ in range(5):
        clock.advance(s=1)
        refusal(limiter)
    leave()
    clock.advance(s=5)
    limiter.enter(KEY, "dev", Operation.RUN)


def test_no_window_of_ten_seconds_ever_holds_more_than_the_limit(clock):
    draw = random.Random(1)
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(20)})
    admitted_ms: list[int] = []
    for _ in range(3_000):
        clock.advance(ms=draw.randrange(700))
        now_ms = clock.now_ms()
        try:
            limiter.enter(KEY, "dev", Operation.RUN)
        except TooManyRequests as error:
            # Waiting as long as told is enough, and a second less would not have been.
            times_ms = [time_ms for time_ms in admitted_ms if time_ms > now_ms - 10_000]
            assert len(times_ms) == 20
            assert error.retry_after_s * 1_000 - 1_000 < times_ms[0] + 10_000 - now_ms <= error.retry_after_s * 1_000
        else:
            admitted_ms.append(now_ms)
    assert len(admitted_ms) > 500
    for place, time_ms in enumerate(admitted_ms[20:]):
        assert time_ms - admitted_ms[place] >= 10_000


def test_keys_endpoints_and_operations_are_counted_apart(clock):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(1), Operation.CANCEL: RateRule(1)})
    limiter.enter(KEY, "dev", Operation.RUN)
    limiter.enter(OTHER_KEY, "dev", Operation.RUN)
    limiter.enter(KEY, "schnell", Operation.RUN)
    limiter.enter(KEY, "dev", Operation.CANCEL)
    refusal(limiter)


def test_open_requests_are_limited_until_one_is_over(clock):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(None, 2)})
    leave = limiter.enter(KEY, "dev", Operation.RUN)
    limiter.enter(KEY, "dev", Operation.RUN)
    clock.advance(days=1)
    error = refusal(limiter)
    assert error.retry_after_s == 1
    assert "2 /run requests of this API key are open at once" in str(error)
    leave()
    limiter.enter(KEY, "dev", Operation.RUN)


def test_an_operation_without_a_rule_has_no_limit(clock):
    limiter = RateLimiter(clock, {})
    for _ in range(5_000):
        limiter.enter(KEY, "dev", Operation.STATUS)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_is_set_neither_locks_out_nor_lets_in(clock, jump_s):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(1)})
    limiter.enter(KEY, "dev", Operation.RUN)
    clock.jump(s=jump_s)
    assert refusal(limiter).retry_after_s == 10
    clock.advance(s=10)
    limiter.enter(KEY, "dev", Operation.RUN)


def test_idle_counters_are_dropped_and_open_ones_kept(clock):
    limiter = RateLimiter(clock, {Operation.RUN: RateRule(None, 1), Operation.CANCEL: RateRule(1)})
    leave = limiter.enter(KEY, "dev", Operation.RUN)
    for number in range(100):
        limiter.enter(KEY, str(number), Operation.CANCEL)()
    clock.advance(days=1)
    refusal(limiter)
    assert len(limiter._gates) == 1
    leave()
    limiter.enter(KEY, "dev", Operation.RUN)


def test_the_defaults_are_those_of_the_contract():
    expected = {
        Operation.RUNSYNC: RateRule(2_000, 400),
        Operation.RUN: RateRule(1_000, 200),
        Operation.STATUS: RateRule(2_000, 400),
        Operation.CANCEL: RateRule(100, 20),
        Operation.PURGE_QUEUE: RateRule(2, None),
    }
    assert expected.items() <= DEFAULT_RULES.items()
    assert DEFAULT_RULES.keys() == set(Operation)


def test_the_setting_switches_off_or_changes_single_operations():
    assert parse_rules("on") == DEFAULT_RULES
    assert parse_rules("off") == {}
    changed = parse_rules("run=5000/800, cancel=off,status=7")
    assert changed[Operation.RUN] == RateRule(5_000, 800)
    assert changed[Operation.CANCEL] == RateRule()
    assert changed[Operation.STATUS] == RateRule(7)
    assert changed[Operation.RUNSYNC] == DEFAULT_RULES[Operation.RUNSYNC]


@pytest.mark.parametrize(
    "text", ["", "On", "run", "run=", "run=0", "run=-5", "run=5/0", "run=1/2/3", "walk=5", "run=5,"]
)
def test_a_wrong_setting_is_refused(text):
    with pytest.raises(ValueError):
        parse_rules(text)
