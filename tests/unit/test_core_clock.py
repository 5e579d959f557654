"""`core.clock`: time as a value."""

import time

from flux_endpoint.core.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_tells_the_time_of_day_in_milliseconds():
    clock: Clock = SystemClock()
    before_ms = time.time_ns() // 1_000_000
    assert before_ms <= clock.now_ms() <= time.time_ns() // 1_000_000


def test_the_system_clock_runs_evenly_whatever_happens_to_the_machine_s():
    wall_ms, passed_ms = 1_000_000, 7
    clock = SystemClock(lambda: wall_ms * 1_000_000, lambda: passed_ms * 1_000_000)
    assert (clock.now_ms(), clock.monotonic_ms()) == (1_000_000, 7)
    wall_ms, passed_ms = 5, 17
    assert (clock.now_ms(), clock.monotonic_ms()) == (1_000_010, 17)
    clock.set(2_000_000, at_ms=12)
    assert (clock.now_ms(), clock.monotonic_ms()) == (2_000_005, 17)


def test_a_manual_clock_jumps_without_time_passing():
    clock = ManualClock(5_000)
    clock.advance(ms=1)
    clock.jump(s=-2)
    assert (clock.now_ms(), clock.monotonic_ms()) == (3_001, 1)


def test_a_manual_clock_moves_only_when_told():
    clock: Clock = ManualClock(5)
    assert (clock.now_ms(), clock.now_ms()) == (5, 5)


def test_a_manual_clock_adds_up_what_it_is_told():
    clock = ManualClock(0)
    clock.advance(ms=1, s=0.5, days=1)
    assert clock.now_ms() == 86_400_501
    clock.advance()
    assert clock.now_ms() == 86_400_501
