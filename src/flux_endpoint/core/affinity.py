"""Which worker a job with LoRAs goes to: one that has them (docs/decisions/0060-workers-and-their-loras.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.raw_json import RawJson

# Who has waited for so long is passed over by nobody: the price that a job pays at most for those of others.
PASSED_OVER_MS: Final = 10_000
# An idle worker that waits here has claimed a new job by then, unless it is lost.
LEFT_MS: Final = 200

# An endpoint, because each model keeps LoRAs of its own, and the sorted SHA-256s of the files. Empty for none.
LoraSet = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Affinity:
    """What a worker has of LoRAs, beside others.

    Attributes:
        held: sets that it was handed lately, the latest first.
        left: sets that it does not hold, and a worker does that is idle and waits for a job.
    """

    held: tuple[LoraSet, ...] = ()
    left: frozenset[LoraSet] = frozenset()


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """What there is to know of a job that waits, to choose a worker for it.

    Attributes:
        seq: its number in the queue.
        created_ms: when it came.
        loras: its set.
    """

    seq: int
    created_ms: int
    loras: LoraSet


def lora_set(endpoint_id: str, fields: Mapping[str, Any] | RawJson) -> LoraSet:
    """The LoRAs that a job needs, whatever their scales.

    Args:
        endpoint_id: of the job.
        fields: its `input`, as its worker gets it; that of a custom endpoint may hold anything. One that is long is not
            taken apart, and is as if it had none.
    """
    if isinstance(fields, RawJson):
        return ()
    loras = fields.get("loras")
    entries = loras if isinstance(loras, list | tuple) else ()
    hashes = [entry.get("sha256") for entry in entries if isinstance(entry, Mapping)]
    known = sorted({sha256 for sha256 in hashes if isinstance(sha256, str) and sha256})
    return (endpoint_id, *known) if known else ()


def in_turn(waiting: Sequence[WaitingJob], affinity: Affinity, now_ms: int) -> list[int]:
    """Which of some waiting jobs a worker may take now, the one that it should take first first.

    1. Who has waited for too long to be passed over.
    2. Whose LoRAs the worker has, the latest first.
    3. All others, but those that came just now, and that an idle worker has the LoRAs of.

    Args:
        waiting: in the order of the queue, which holds among equals.
        affinity: of the worker.
        now_ms: by the clock that `created_ms` is from.

    Returns:
        The `seq` of each.
    """
    places = {loras: place for place, loras in enumerate(affinity.held)}

    def rank(job: WaitingJob) -> int:
        is_overdue = now_ms - job.created_ms > PASSED_OVER_MS
        return -1 if is_overdue else places.get(job.loras, len(places))

    # One from a gateway whose clock is ahead is left to nobody: who knows for how long that would be.
    ours = [job for job in waiting if not (job.loras in affinity.left and 0 <= now_ms - job.created_ms <= LEFT_MS)]
    return [job.seq for job in sorted(ours, key=rank)]
