"""The simulation of a fleet loses no picture and pays for no more workers than it may have."""

from benchmarks.capacity import Assumptions, Scenario, quantile, simulate
from flux_endpoint.core.scaling import ScaleBy, ScalingRules

HOUR_S = 3_600


def day(max_workers: int, min_workers: int = 0, **changes: float) -> dict[str, object]:
    rules = ScalingRules(min_workers, max_workers, 60, ScaleBy.QUEUE_DELAY, 4)
    return simulate(Scenario(100_000, rules), Assumptions(**changes), HOUR_S, max_queued=200)


def test_every_picture_is_done_refused_or_left():
    figures = day(max_workers=2)
    assert figures["asked"] == figures["refused"] + figures["done"] + figures["left"]
    assert figures["asked"] > 1_000
    # One GPU draws .9 of them a second.
    assert figures["done"] <= 2 * HOUR_S / Assumptions().mean_s * 1.05
    assert figures["gpu_hours"] <= 2


def test_a_fleet_that_is_too_small_refuses_and_a_large_one_is_idle():
    small, large = day(max_workers=1), day(max_workers=20, min_workers=20)
    assert small["refused"] > 0
    assert large["refused"] == 0
    assert small["utilisation"] > 0.95 > large["utilisation"]
    assert small["wait_s"]["p95"] > large["wait_s"]["p95"] == 0


def test_slow_starts_are_waited_for():
    assert day(max_workers=8, cold_start_s=300)["wait_s"]["p99"] > day(max_workers=8, cold_start_s=5)["wait_s"]["p99"]


def test_a_quantile_is_what_so_many_have_waited_at_most():
    assert quantile({0: 90, 4: 9, 40: 1}, 0.5) == 0
    assert quantile({0: 90, 4: 9, 40: 1}, 0.95) == 1
    assert quantile({0: 90, 4: 9, 40: 1}, 1) == 10
