"""What a client asks for, in the product's own words: what every dialect makes of what its clients send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.job import Policy
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.source_picture import SentFiles


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for a job, checked and priced.

    Attributes:
        input: what the worker gets.
        cost_usd: what the job will cost when it is COMPLETED.
        policy, webhook, bucket: see `Job`.
        fingerprint: tells whether two requests with one Idempotency-Key are the same; empty when nobody asked for it.
        warnings: what of the request is not heeded, a sentence each.
        sent: see `PricedInput`.
    """

    input: Mapping[str, Any] | RawJson
    cost_usd: Decimal
    policy: Policy = field(default_factory=Policy)
    webhook: str | None = None
    bucket: Bucket | None = None
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()
    sent: SentFiles | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a request for a job came in, and what its client was given for it.

    Attributes:
        job_id: of the job it becomes, in the form of its dialect.
        dialect: see `Job`.
        is_held: whether the client waits for the answer: then its result need not be kept for long.
        origin: see `Job`.
        idempotency_key: the same key and request get the same job; None for a new job each time.
        traceparent: see `Job`.
    """

    job_id: str
    dialect: str
    is_held: bool
    origin: str | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None
