"""What a client sends around `input`: the same for every endpoint (contract section 2)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.bucket import parse_bucket
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.job import Policy
from flux_endpoint.core.outbound import require_url

_DAY_MS: Final = 86_400_000
EXECUTION_TIMEOUT_MS: Final = (5_000, 7 * _DAY_MS)
TTL_MS: Final = (10_000, 7 * _DAY_MS)
# For how long a repeated request with an Idempotency-Key is known as such, whatever has become of its job; longer if
# that can be read for longer.
IDEMPOTENCY_KEY_LIFE_MS: Final = _DAY_MS


@dataclass(frozen=True, slots=True)
class Envelope:
    """A submission, taken apart. `input` is still the client's: the endpoint checks it."""

    input: Mapping[str, Any]
    policy: Policy
    webhook: str | None
    s3_config: Mapping[str, str] | None


def parse_envelope(body: object) -> Envelope:
    """Check the body of `/run` or `/runsync`. Unknown keys are ignored; null counts as absent.

    Raises:
        InvalidRequest: the body or its `input` is no object.
        InvalidParameter: a field beside `input` is wrong; the text names it and its limit.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'input'")
    if "input" not in body:
        raise InvalidRequest("Invalid request: the body has no 'input'")
    fields = body["input"]
    if not isinstance(fields, Mapping):
        raise InvalidRequest("Invalid request: 'input' must be a JSON object")
    return Envelope(
        fields, _policy(body.get("policy")), _webhook(body.get("webhook")), parse_bucket(body.get("s3Config"))
    )


def fingerprint(body: object) -> str:
    """The same text for the same JSON value, whatever the order of its keys: tells whether two bodies are equal."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _policy(value: object) -> Policy:
    if value is None:
        return Policy()
    if not isinstance(value, Mapping):
        raise InvalidParameter("policy", "must be a JSON object")
    timeout_ms = _milliseconds(value, "executionTimeout", EXECUTION_TIMEOUT_MS)
    low_priority = value.get("lowPriority")
    if low_priority is None:
        low_priority = False
    if not isinstance(low_priority, bool):
        raise InvalidParameter("policy.lowPriority", "must be true or false")
    return Policy(
        execution_timeout_ms=Policy().execution_timeout_ms if timeout_ms is None else timeout_ms,
        ttl_ms=_milliseconds(value, "ttl", TTL_MS),
        low_priority=low_priority,
    )


def _milliseconds(fields: Mapping[str, Any], name: str, limits: tuple[int, int]) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(f"policy.{name}", "must be an integer (milliseconds)")
    if not limits[0] <= value <= limits[1]:
        raise InvalidParameter(f"policy.{name}", f"must be between {limits[0]} and {limits[1]} milliseconds")
    return value


def _webhook(value: object) -> str | None:
    # Clients that leave a form's field empty send "".
    if value is None or value == "":
        return None
    return require_url("webhook", value)
