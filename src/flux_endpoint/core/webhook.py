"""A webhook on its way: what is sent, how it is signed, and what became of it."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flux_endpoint.core.job import Job, JobStatus

SECRET_PREFIX: Final = "whsec_"
# How long after a rotation the secret before still signs, so that no receiver has to change in the same second.
ROTATION_MS: Final = 86_400_000

# A receiver that failed so often in a row gets nothing for a while: more often than one message is tried, so that one
# that nobody can take is no reason.
FAILURES_TO_PAUSE: Final = 5
FIRST_PAUSE_MS: Final = 30_000
LONGEST_PAUSE_MS: Final = 900_000
# What waits for a receiver that has failed for so long is given up; it can be sent again by hand.
PATIENCE_MS: Final = 86_400_000


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    # Its address must not be called (`core/outbound.py`).
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One end of a job that has to be told, claimed by one gateway.

    Attributes:
        id: the same at every attempt and replay; receivers know repetitions by it.
        job: as it stood at its end, whatever has become of its record.
        url: who is told.
        secrets: to sign with, the current one first.
        attempts: how often it was tried before.
        claim_token: raised by one at each claim; a report with an older one changes nothing.
    """

    id: str
    job: Job
    url: str
    secrets: Sequence[str]
    attempts: int
    claim_token: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try went.

    Attributes:
        state: of the delivery from now on; WAITING for another try.
        due_ms: when that other try is due; None unless WAITING.
        code: the receiver's HTTP code; None when it did not answer.
        error: what was wrong; None when DELIVERED.
    """

    state: DeliveryState
    due_ms: int | None = None
    code: int | None = None
    error: str | None = None


class Turn(StrEnum):
    """What an attempt changed for its receiver."""

    NONE = "none"
    # It has failed too often in a row, and is left alone for a while.
    PAUSED = "paused"
    # It was paused, and has taken something.
    BACK = "back"


@dataclass(frozen=True, slots=True)
class PausedReceiver:
    """A receiver that gets one message at the end of each pause until it takes one. Times as in `DeliveryRecord`.

    Attributes:
        key_id: of the API key whose webhooks go there; another key's are not held up.
        key_name: empty for a key that is not known.
        origin: scheme, host and port.
        failures: in a row; what was on its way when a pause began is not counted.
        since_ms: the first of them.
        until_ms: end of the pause; in the past while the next message is on its way.
        error: of the last attempt.
        waiting: how many messages wait for it.
    """

    key_id: str
    key_name: str
    origin: str
    failures: int
    since_ms: int
    until_ms: int
    error: str
    waiting: int


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One line of the delivery log. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        shown_url: without user, password and query.
        status: of the job when it ended.
        code: the receiver's last HTTP code; None when it did not answer or was not asked yet.
        error: of the last attempt; None when there was none, or it was delivered.
        can_replay: whether what was sent is still kept.
    """

    id: str
    job_id: str
    status: JobStatus
    shown_url: str
    created_ms: int
    state: DeliveryState
    attempts: int
    code: int | None
    error: str | None
    can_replay: bool


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """What signs the webhooks of one API key.

    Attributes:
        secret: in the form `whsec_<base64>`.
        previous: the one before the last rotation, while it still signs; None otherwise.
        previous_until_ms: until when; None without `previous`.
    """

    secret: str
    previous: str | None = None
    previous_until_ms: int | None = None


def pause_ms(failures: int) -> int:
    """How long a receiver is left alone after so many failures in a row, in milliseconds; 0 for not at all."""
    if failures < FAILURES_TO_PAUSE:
        return 0
    return min(FIRST_PAUSE_MS << min(failures - FAILURES_TO_PAUSE, 16), LONGEST_PAUSE_MS)


def signature_header(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature` of the Standard Webhooks scheme: one signature for each secret.

    Args:
        secrets: in the form `whsec_<base64>`.
        message_id: the header `webhook-id`.
        timestamp_s: the header `webhook-timestamp`, seconds since 1970-01-01 UTC.
        body: exactly the bytes that are sent.
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.new(_key_in(secret), signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _key_in(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is not of the form whsec_<base64>") from None
