"""What gateways know of workers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# EX_OSERR of sysexits.h: the device of a worker has failed. Another process may use it.
EXIT_DEVICE_FAILED: Final = 71


class WorkerState(StrEnum):
    """What a worker last said of itself."""

    STARTING = "starting"  # it is known, but has not asked for a job yet
    READY = "ready"
    UNHEALTHY = "unhealthy"  # it said so; it gets no jobs until it says otherwise
    LOST = "lost"  # it hung up and only pings since
    LEAVING = "leaving"  # it asked to be restarted; it gets no jobs until it has been
    DISMISSED = "dismissed"  # it was asked to leave for good; it gets no jobs, and counts no longer


@dataclass(frozen=True, slots=True)
class WorkerToken:
    """The right to take jobs, without its secret. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        id: starts the ids of all workers that use it, with a colon; empty for the gateway's own token.
        endpoint_ids: endpoints it is good for; None for all.
    """

    id: str
    name: str
    endpoint_ids: frozenset[str] | None
    created_ms: int
    revoked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What all gateways on one database know of a worker. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        id: as `Job.worker_id`.
        endpoint_ids: endpoints it serves.
        reason: why it is in its state; empty when there is nothing to say.
        since_ms: since when it is in its state.
        seen_ms: when it was last heard of; up to some seconds old.
        asked_ms: when it last asked for a job; up to a held call and some seconds old, 0 for never.
        fingerprint: of the kind of worker it is; empty when it has not said.
        step_us: what one step of its calibration took, microseconds; None when it has not said.
    """

    id: str
    endpoint_ids: frozenset[str]
    state: WorkerState
    reason: str
    since_ms: int
    seen_ms: int
    asked_ms: int = 0
    fingerprint: str = ""
    step_us: int | None = None
