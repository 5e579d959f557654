"""Batches: requests that are collected first and queued together."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.job import Policy
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.source_picture import SentFiles

# Contract section 1.8.
MAX_ACTIVE_BATCHES: Final = 10
MAX_BATCH_REQUESTS: Final = 5_000
MAX_QUEUED_JOBS: Final = 50_000
MAX_NAME_CHARS: Final = 200
# Whoever has not finalized a batch by then has forgotten it; it would count as active for ever.
DRAFT_LIFE_MS: Final = 7 * 86_400_000
# Thousands of jobs may have to wait longer than the day that a single one is granted.
BATCH_TTL_MS: Final = 7 * 86_400_000
# Results are read later than those of single jobs; kept for this long at least.
BATCH_RETENTION_MS: Final = 86_400_000


class BatchStatus(StrEnum):
    """Where a batch stands; the values are the wire's. Whether its jobs are done is told by its counts."""

    DRAFT = "DRAFT"
    FINALIZED = "FINALIZED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """How many requests of a batch stand where. Done when `completed` and `failed` make `total`.

    Attributes:
        failed: those that ended otherwise: FAILED, TIMED_OUT or CANCELLED.
    """

    total: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The record of a batch. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        name: for people; None when it has none.
        webhook: is told the end of each request that names no other; None for nobody.
        counts: taken from its requests when it was read.
        key_id: the API key that made it, and that its jobs will belong to; None for a draft of an early version.
    """

    id: str
    endpoint_id: str
    status: BatchStatus
    created_ms: int
    name: str | None = None
    webhook: str | None = None
    counts: BatchCounts = BatchCounts()
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A request of a batch that is still a DRAFT: checked and priced, but no job yet. Fields as in `Submission`."""

    id: str
    input: Mapping[str, Any] | RawJson
    cost_usd: Decimal
    policy: Policy
    webhook: str | None = None
    bucket: Bucket | None = None
    warnings: tuple[str, ...] = ()
    sent: SentFiles | None = None
