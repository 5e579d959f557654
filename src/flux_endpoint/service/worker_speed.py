"""Which workers are much slower than others of their kind, and so get jobs last."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from flux_endpoint.core.worker import WorkerRecord

# Cards of one kind differ by some percent. One that is too hot, or shared with somebody, is much slower.
_LEAST_SHARE: Final = 0.7


def throttled(workers: Iterable[WorkerRecord]) -> Mapping[str, str]:
    """The workers whose speed is below 70 % of the median of their kind, by id: why, in words.

    Of one kind are those with the same fingerprint. A worker that has not said how fast it is is neither fast nor slow.
    """
    kinds: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for worker in workers:
        if worker.step_us is not None and worker.fingerprint:
            kinds[worker.fingerprint].append((worker.id, worker.step_us))
    slow = {}
    for steps in kinds.values():
        usual_per_s = statistics.median(1_000_000 / step_us for _, step_us in steps)
        for worker_id, step_us in steps:
            if 1_000_000 / step_us < _LEAST_SHARE * usual_per_s:
                usual_ms = 1_000 / usual_per_s
                slow[worker_id] = f"its step takes {step_us / 1_000:.1f} ms, {usual_ms:.1f} ms is usual for its kind"
    return slow
