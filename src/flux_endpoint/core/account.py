"""Who may do what: API keys, their limits, and the operations they open."""

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from flux_endpoint.core.errors import Forbidden, InvalidRequest
from flux_endpoint.core.pricing import usd_to_units

MAX_REQUESTS_PER_MINUTE: Final = 1_000_000
MAX_USD_PER_MONTH: Final = Decimal(1_000_000_000)
_ENDPOINT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Operation(StrEnum):
    """What a client asks for. Rate limits are counted by these; the value names one in settings and errors."""

    RUN = "run"
    RUNSYNC = "runsync"
    STATUS = "status"  # and status-sync, stream and events: one limit for all ways to look at a job
    CANCEL = "cancel"
    RETRY = "retry"
    PURGE_QUEUE = "purge-queue"
    HEALTH = "health"
    REQUESTS = "requests"
    ESTIMATE = "estimate"
    BILLING = "billing"
    USAGE = "usage"
    GPU_RELEASE = "gpu-release"
    BATCH = "batch"  # all that changes a batch, but for `finalize`, which is a `run`


# What a key that is read only may do.
READING: Final = frozenset(
    {
        Operation.STATUS,
        Operation.HEALTH,
        Operation.REQUESTS,
        Operation.ESTIMATE,
        Operation.BILLING,
        Operation.USAGE,
    }
)
# What asks for a job: `KeyLimits.requests_per_minute` counts it.
SUBMITTING: Final = frozenset({Operation.RUN, Operation.RUNSYNC, Operation.RETRY})


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may not do. The default is a key that may do everything.

    Attributes:
        is_read_only: it may look, but not submit, cancel or purge.
        endpoint_ids: the only endpoints it opens; None for all.
        usd_per_month: what it may spend in a calendar month (UTC); None for any amount.
        requests_per_minute: how many jobs it may ask for in any 60 seconds; None for as many as it likes.

    Raises:
        InvalidRequest: a value is out of range.
    """

    is_read_only: bool = False
    endpoint_ids: frozenset[str] | None = None
    usd_per_month: Decimal | None = None
    requests_per_minute: int | None = None

    def __post_init__(self) -> None:
        if self.endpoint_ids is not None:
            wrong = [name for name in sorted(self.endpoint_ids) if not _ENDPOINT_ID.fullmatch(name)]
            if wrong or not self.endpoint_ids:
                raise InvalidRequest(f"an endpoint id has 1 to 100 letters, digits, '-', '_' or '.', not {wrong}")
        if self.usd_per_month is not None and not _is_amount(self.usd_per_month):
            raise InvalidRequest(f"USD per month must be from 0 to {MAX_USD_PER_MONTH}, with at most 8 decimals")
        if self.requests_per_minute is not None and not 1 <= self.requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
            raise InvalidRequest(f"requests per minute must be from 1 to {MAX_REQUESTS_PER_MINUTE}")


NO_LIMITS: Final = KeyLimits()
# `ApiKey.made_for` of a key that the setting API_KEY fixes, on whichever gateway.
API_KEY_SETTING: Final = "API_KEY"


def _is_amount(amount_usd: Decimal) -> bool:
    if not amount_usd.is_finite() or not 0 <= amount_usd <= MAX_USD_PER_MONTH:
        return False
    try:
        usd_to_units(amount_usd)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key without its secret. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        made_for: why a server made it at its start: `API_KEY_SETTING`, or the name of the node in whose data folder it
            is kept; None for a key that a person made, and for those of early versions.
        chosen_model: the endpoint whose model its client has chosen, for requests of clients that choose beforehand and
            then name none; None for the server's choice.
    """

    id: str
    name: str
    created_ms: int
    revoked_ms: int | None = None
    limits: KeyLimits = NO_LIMITS
    made_for: str | None = None
    chosen_model: str | None = None

    @property
    def sees_only(self) -> str | None:
        """The one key whose jobs, batches and charges this key sees and acts on: itself; None for those of all keys.

        A key for some endpoints is for a guest. Whoever opens everything owns or oversees the server; a read-only key
        of that kind sees all and changes nothing.
        """
        return None if self.limits.endpoint_ids is None else self.id

    def require(self, endpoint_id: str | None, operation: Operation) -> None:
        """Pass if the key opens this operation of this endpoint (None: of the server).

        Raises:
            Forbidden: it does not.
        """
        if self.limits.is_read_only and operation not in READING:
            self.require_writing(f"/{operation}")
        opened = self.limits.endpoint_ids
        if opened is not None and endpoint_id is not None and endpoint_id not in opened:
            names = ", ".join(sorted(opened))
            raise Forbidden(f"API key '{self.name}' does not open the endpoint '{endpoint_id[:80]}', only {names}")

    def require_writing(self, what: str) -> None:
        """Pass if the key may change jobs; `what` names the change in the error.

        Raises:
            Forbidden: it is read only.
        """
        if self.limits.is_read_only:
            raise Forbidden(f"API key '{self.name}' is read only: it may not use {what}")


def hash_of_secret(secret: str) -> str:
    """What is kept of the secret of an API key or a worker token: SHA-256, 64 hexadecimal digits."""
    # Secrets are 256 random bits: a plain fast hash is as good as a slow one, which only protects guessable ones.
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One charge, written once per completed job, never changed."""

    job_id: str
    endpoint_id: str
    key_id: str
    amount_usd: Decimal
    created_ms: int


@dataclass(frozen=True, slots=True)
class ChargeSum:
    """What was charged from `start_ms` on, for one unit of time."""

    start_ms: int
    charges: int
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What one key was charged on one endpoint from `start_ms` on, for one unit of time."""

    start_ms: int
    key_id: str
    endpoint_id: str
    charges: int
    amount_usd: Decimal
