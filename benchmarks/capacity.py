"""Simulates a day of a fleet, from one machine to 2,000 GPUs: delay, utilisation, cost, and what breaks first.

Simulated, not measured. The autoscaler is the product's own (`service/autoscaler.py`), asked once a second as in the
product; queue and workers are counts that move in quarters of a second. What goes in:

- arrivals: Poisson around a day's curve, highest at 18 h and lowest at 6 h, and three times as many for five minutes;
- seconds of a picture: published ones of other programs on an H200, 1024 x 1024 in bfloat16 (`STEP_SOURCES`);
- cold starts and the price of a GPU: assumptions, in `Assumptions`.

    python -m benchmarks.capacity
"""

import argparse
import json
import math
import random
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from flux_endpoint.core.limits import MAX_QUEUED
from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.service.autoscaler import Decision, Demand, decide

RESULTS = Path(__file__).parent / "results"
TICKS_PER_S: Final = 4
DAY_S: Final = 86_400
POINT_S: Final = 600
COLD_STARTS_S: Final = (10, 60, 300)
# Of the day: when the burst begins, and for how long it lasts.
BURST: Final = (43_080, 300)
STEP_SOURCES: Final = {
    "dev": "28 steps, 3.50 s: SGLang with FA3 and compilation, pull request 19673",
    "schnell": "4 steps, 0.50 s: .352 s of transformer at 790 TFLOP/s, with text and pixels, and what is lost between",
}


@dataclass(frozen=True)
class Assumptions:
    """What a run takes for granted.

    Attributes:
        dev_s, schnell_s: of one picture on one GPU.
        dev_share: of all pictures.
        cold_start_s: from the decision to the first job: a machine that is there, a model on its disk.
        usd_per_gpu_hour: what a GPU costs while its worker is there.
        day_swing: how far the busiest hour is above the mean, as a part of it.
        burst: how many times as many come during the burst.
        jpeg_bytes: of a picture.
        trips_per_job: statements and commits that a job sends to PostgreSQL.
    """

    dev_s: float = 3.5
    schnell_s: float = 0.5
    dev_share: float = 0.2
    cold_start_s: float = 60
    usd_per_gpu_hour: float = 3.0
    day_swing: float = 0.3
    burst: float = 3
    jpeg_bytes: int = 250_000
    trips_per_job: int = 14

    @property
    def mean_s(self) -> float:
        """Of a picture."""
        return self.dev_share * self.dev_s + (1 - self.dev_share) * self.schnell_s


@dataclass(frozen=True)
class Scenario:
    """A day.

    Attributes:
        pictures: asked for, about.
        rules: of the autoscaler.
    """

    pictures: int
    rules: ScalingRules

    @property
    def name(self) -> str:
        return f"{self.pictures:,} a day, {self.rules.by.value}"


class Fleet:
    """Workers and the jobs that wait for them, as counts.

    Args:
        assumptions: how long things take.
        workers: ready at the beginning.
        draw: decides which pictures are dev ones.
    """

    def __init__(self, assumptions: Assumptions, workers: int, draw: random.Random) -> None:
        self._assumptions = assumptions
        self._draw = draw
        self.ready = workers
        # When each becomes ready, by tick, and how many.
        self.starting: deque[tuple[int, int]] = deque()
        self._ending: dict[int, int] = {}
        self.running = 0
        # When they came, by tick, and how many of them wait.
        self.queue: deque[list[int]] = deque()
        self.waiting = 0
        # How many have waited for how many ticks.
        self.waits: dict[int, int] = {}

    @property
    def workers(self) -> int:
        """Ready or starting: all that are paid for."""
        return self.ready + sum(count for _, count in self.starting)

    def arrive(self, tick: int, jobs: int) -> None:
        if jobs:
            self.queue.append([tick, jobs])
            self.waiting += jobs

    def resize(self, tick: int, wanted: int) -> None:
        """Start so many more, or let idle ones go, those first that are not ready."""
        change = wanted - self.workers
        if change > 0:
            self.starting.append((tick + round(self._assumptions.cold_start_s * TICKS_PER_S), change))
        while change < 0 and self.starting:
            ready_at, count = self.starting.pop()
            kept = max(0, count + change)
            change += count - kept
            if kept:
                self.starting.append((ready_at, kept))
        # One that draws leaves when it is done: the autoscaler never wants fewer than draw.
        self.ready = max(self.running, self.ready + min(0, change))

    def step(self, tick: int) -> None:
        """A quarter of a second: some become ready, some are done, some begin."""
        while self.starting and self.starting[0][0] <= tick:
            self.ready += self.starting.popleft()[1]
        self.running -= self._ending.pop(tick, 0)
        free = self.ready - self.running
        while free > 0 and self.queue:
            came, count = self.queue[0]
            begun = min(free, count)
            self._begin(tick, begun)
            self.waits[tick - came] = self.waits.get(tick - came, 0) + begun
            free -= begun
            self.waiting -= begun
            if begun == count:
                self.queue.popleft()
            else:
                self.queue[0][1] -= begun

    def overdue(self, tick: int, threshold_s: float) -> int:
        """Jobs that have waited for longer than the threshold."""
        total = 0
        for came, count in self.queue:
            if tick - came <= threshold_s * TICKS_PER_S:
                break
            total += count
        return total

    def _begin(self, tick: int, jobs: int) -> None:
        taken = self._assumptions
        # Of many the share is near enough.
        dev = sum(self._draw.random() < taken.dev_share for _ in range(jobs)) if jobs < 50 else None
        dev = round(jobs * taken.dev_share) if dev is None else dev
        for count, seconds in ((dev, taken.dev_s), (jobs - dev, taken.schnell_s)):
            # A picture that ends within a tick ends with it, at random up or down: the mean is kept.
            ticks = seconds * TICKS_PER_S
            length = max(1, int(ticks) + (self._draw.random() < ticks % 1))
            self._ending[tick + length] = self._ending.get(tick + length, 0) + count
        self.running += jobs


def poisson(mean: float, draw: random.Random) -> int:
    """How many come when so many come on the average."""
    if mean > 50:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    product, count = draw.random(), 0
    limit = math.exp(-mean)
    while product > limit:
        product *= draw.random()
        count += 1
    return count


def rate_at(second: float, scenario: Scenario, assumptions: Assumptions) -> float:
    """Pictures a second that are asked for at a time of the day, on the average."""
    wave = 1 - assumptions.day_swing * math.cos((second / DAY_S - 0.25) * 2 * math.pi)
    is_burst = 0 <= second - BURST[0] < BURST[1]
    return scenario.pictures / DAY_S * wave * (assumptions.burst if is_burst else 1)


def quantile(waits: dict[int, int], share: float) -> float:
    """Seconds that this share of all jobs has waited at most."""
    left = share * sum(waits.values())
    for ticks in sorted(waits):
        left -= waits[ticks]
        if left <= 0:
            return ticks / TICKS_PER_S
    return 0.0


def simulate(
    scenario: Scenario, assumptions: Assumptions, seconds: int = DAY_S, max_queued: int = MAX_QUEUED, seed: int = 1
) -> dict[str, Any]:
    """A day of one fleet; starts with as many workers as the first minute needs.

    Returns:
        Figures: jobs `asked`, `refused` (the queue was full), `done` and `left`; waits in seconds; GPU hours; and a
        point for each ten minutes.
    """
    draw, rules = random.Random(seed), scenario.rules
    needed = math.ceil(rate_at(0, scenario, assumptions) * assumptions.mean_s)
    fleet = Fleet(assumptions, max(rules.min_workers, min(rules.max_workers, needed)), draw)
    decision = Decision(fleet.workers)
    asked = refused = most_waiting = 0
    paid_ticks = busy_ticks = 0
    points: list[dict[str, float]] = []
    for tick in range(seconds * TICKS_PER_S):
        second = tick / TICKS_PER_S
        came = poisson(rate_at(second, scenario, assumptions) / TICKS_PER_S, draw)
        let_in = min(came, max(0, max_queued - fleet.waiting))
        asked, refused = asked + came, refused + came - let_in
        fleet.arrive(tick, let_in)
        fleet.step(tick)
        if tick % TICKS_PER_S == 0:
            overdue = fleet.overdue(tick, rules.threshold)
            demand = Demand(fleet.waiting, overdue, fleet.running, fleet.running)
            decision = decide(decision, demand, second, rules)
            fleet.resize(tick, decision.workers)
        most_waiting = max(most_waiting, fleet.waiting)
        paid_ticks, busy_ticks = paid_ticks + fleet.workers, busy_ticks + fleet.running
        if tick % (POINT_S * TICKS_PER_S) == 0:
            rate = rate_at(second, scenario, assumptions)
            points.append(
                {"s": second, "rate": round(rate, 2), "workers": fleet.workers, "busy": fleet.running}
                | {"waiting": fleet.waiting}
            )
    gpu_hours = paid_ticks / TICKS_PER_S / 3_600
    done = sum(fleet.waits.values()) - fleet.running
    return {
        "scenario": scenario.name,
        "rules": asdict(rules) | {"by": rules.by.value},
        "asked": asked,
        "refused": refused,
        "done": done,
        "left": fleet.waiting + fleet.running,
        "wait_s": {f"p{share:g}": quantile(fleet.waits, share / 100) for share in (50, 95, 99)},
        "most_waiting": most_waiting,
        "most_workers": max(int(point["workers"]) for point in points),
        "utilisation": round(busy_ticks / max(1, paid_ticks), 3),
        "gpu_hours": round(gpu_hours, 1),
        "usd": round(gpu_hours * assumptions.usd_per_gpu_hour, 2),
        "usd_per_1000": round(gpu_hours * assumptions.usd_per_gpu_hour / max(1, done) * 1_000, 3),
        "points": points,
    }


def loads(scenario: Scenario, assumptions: Assumptions) -> dict[str, float]:
    """What the busiest hour asks of the parts that do not draw."""
    rate = scenario.pictures / DAY_S * (1 + assumptions.day_swing)
    return {
        "jobs_per_s": round(rate, 1),
        "postgresql_trips_per_s": round(rate * assumptions.trips_per_job),
        "bucket_mb_per_s": round(rate * assumptions.jpeg_bytes / 1e6, 1),
        # A third of a lease of 30 s.
        "lease_renewals_per_s": round(scenario.rules.max_workers / 10, 1),
    }


def scenarios() -> list[Scenario]:
    """From one machine to 2,000 GPUs, by both ways to scale."""
    sizes = ((10_000, 4), (100_000, 8), (1_000_000, 40), (10_000_000, 250), (100_000_000, 2_000))
    thresholds = {ScaleBy.QUEUE_DELAY: 4.0, ScaleBy.REQUEST_COUNT: 2.0}
    return [
        Scenario(pictures, ScalingRules(0 if pictures < 50_000 else 1, most, 60, by, threshold))
        for pictures, most in sizes
        for by, threshold in thresholds.items()
    ]


def cold_starts(assumptions: Assumptions, seconds: int) -> list[dict[str, Any]]:
    """What the start of a worker costs those who wait, by its seconds: a million pictures, scaled by queue delay."""
    million = next(scenario for scenario in scenarios() if scenario.pictures == 1_000_000)
    found = []
    for cold_start_s in COLD_STARTS_S:
        day = simulate(million, replace(assumptions, cold_start_s=cold_start_s), seconds)
        found.append(
            {"cold_start_s": cold_start_s} | {name: day[name] for name in ("wait_s", "utilisation", "usd_per_1000")}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=DAY_S, help="of the day")
    arguments = parser.parse_args()
    assumptions = Assumptions()
    found = []
    for scenario in scenarios():
        found.append(simulate(scenario, assumptions, arguments.seconds) | {"loads": loads(scenario, assumptions)})
    table = Table(title="simulated days")
    heads = ("", "p50 s", "p95 s", "p99 s", "refused", "most waiting", "most workers", "busy", "GPU h", "USD per 1,000")
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    for row in found:
        waits = [f"{row['wait_s'][name]:g}" for name in ("p50", "p95", "p99")]
        refused = f"{row['refused'] / max(1, row['asked']):.2%}"
        rest = [
            f"{row[name]:,}" for name in ("most_waiting", "most_workers", "utilisation", "gpu_hours", "usd_per_1000")
        ]
        table.add_row(row["scenario"], *waits, refused, *rest)
    Console(width=140).print(table)
    result = {"is_simulated": True, "assumptions": asdict(assumptions), "sources": STEP_SOURCES, "days": found}
    result["cold_starts"] = cold_starts(assumptions, arguments.seconds)
    (RESULTS / "capacity.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
