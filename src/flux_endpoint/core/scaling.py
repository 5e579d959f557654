"""When workers are started and stopped: the rules that an operator sets."""

from dataclasses import dataclass
from enum import StrEnum


class ScaleBy(StrEnum):
    """What says that there are too few workers."""

    QUEUE_DELAY = "queue-delay"
    REQUEST_COUNT = "request-count"


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """How many workers there may be.

    Attributes:
        min_workers: are always kept.
        max_workers: are never exceeded; at least `min_workers`.
        idle_timeout_s: for how long fewer must have been enough before some leave.
        by: what is looked at.
        threshold: seconds that a job may wait, or unfinished jobs for each worker.
    """

    min_workers: int
    max_workers: int
    idle_timeout_s: float = 60
    by: ScaleBy = ScaleBy.QUEUE_DELAY
    threshold: float = 4

    @property
    def is_elastic(self) -> bool:
        """Whether there is anything to decide."""
        return self.min_workers < self.max_workers
