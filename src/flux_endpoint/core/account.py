"""Who may do what: API keys and the operations they open."""

from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What a client asks for. Rate limits are counted by these; the value names one in settings and errors."""

    RUN = "run"
    RUNSYNC = "runsync"
    STATUS = "status"  # and status-sync and stream: one limit for all ways to look at a job
    CANCEL = "cancel"
    RETRY = "retry"
    PURGE_QUEUE = "purge-queue"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key without its secret. Times are milliseconds since 1970-01-01 UTC."""

    id: str
    name: str
    created_ms: int
    revoked_ms: int | None = None
