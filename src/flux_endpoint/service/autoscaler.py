"""How many workers there should be: pure functions of what waits and what runs (docs/decisions/0035)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.stores.fleets.protocol import Pool


@dataclass(frozen=True, slots=True)
class Demand:
    """What there is to do, at one moment. Jobs of low priority count in `busy` only.

    Attributes:
        waiting: jobs that wait for a worker.
        overdue: how many of them have waited for longer than the threshold of the queue delay.
        running: jobs that our workers run.
        busy: how many of our workers run a job.
    """

    waiting: int = 0
    overdue: int = 0
    running: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A number of workers, and what must be remembered until the next decision. Times are seconds of any clock.

    Attributes:
        workers: how many there should be.
        spare_since_s: since when fewer would have been enough; None while all are needed.
        peak: how many were needed at most since then.
    """

    workers: int
    spare_since_s: float | None = None
    peak: int = 0


def workers_needed(demand: Demand, rules: ScalingRules) -> int:
    """How many workers this needs, within the rules.

    By queue delay: those that work, and one for each job that has waited too long. By request count: one for each
    `threshold` jobs. Either way the first job that waits gets one at once, and none that works is too many.
    """
    if rules.by is ScaleBy.QUEUE_DELAY:
        wanted = demand.busy + demand.overdue
    else:
        wanted = math.ceil((demand.waiting + demand.running) / rules.threshold)
    wanted = max(wanted, demand.busy, min(1, demand.waiting))
    return max(rules.min_workers, min(rules.max_workers, wanted))


def decide(last: Decision, demand: Demand, now_s: float, rules: ScalingRules) -> Decision:
    """More workers as soon as they are needed, fewer once fewer have been enough for the idle timeout.

    Args:
        last: the decision before; at the start, how many workers there are.
        demand: what there is to do now.
        now_s: of a clock that is never set.
        rules: of the operator.
    """
    needed = workers_needed(demand, rules)
    # The rules may have changed with who decides.
    current = max(rules.min_workers, min(rules.max_workers, last.workers))
    if needed >= current:
        return Decision(needed)
    if last.spare_since_s is None:
        return Decision(current, now_s, needed)
    peak = min(current, max(last.peak, needed))
    if now_s - last.spare_since_s < rules.idle_timeout_s:
        return Decision(current, last.spare_since_s, peak)
    # What is kept now was needed within the timeout; what came after that begins to count anew.
    return Decision(peak, now_s, needed)


def share_out(workers: int, pools: Sequence[Pool]) -> Mapping[str, int]:
    """How many of so many workers each pool is to have, by name.

    Each gets its least; then workers stay where they run a job, then where they are, and what is new goes to the
    smallest. A number beyond what the pools may have together is cut to that.
    """
    shares = {pool.name: pool.min_workers for pool in pools}
    left = workers - sum(shares.values())
    for stage in ("busy", "kept", "max_workers"):
        room = {pool.name: min(pool.max_workers, getattr(pool, stage)) for pool in pools}
        while left > 0 and (open_pools := [name for name, most in room.items() if shares[name] < most]):
            shares[min(open_pools, key=lambda name: (shares[name], name))] += 1
            left -= 1
    return shares
