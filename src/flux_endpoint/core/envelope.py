"""What a client sends around `input`: the same for every endpoint (contract section 2)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.job import Policy

_DAY_MS: Final = 86_400_000
EXECUTION_TIMEOUT_MS: Final = (5_000, 7 * _DAY_MS)
TTL_MS: Final = (10_000, 7 * _DAY_MS)
_MAX_URL_CHARS: Final = 2_000
_S3_REQUIRED: Final = ("accessId", "accessSecret", "bucketName", "endpointUrl")
_MAX_S3_CHARS: Final = 1_000


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
        fields, _policy(body.get("policy")), _webhook(body.get("webhook")), _s3_config(body.get("s3Config"))
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
    return _url("webhook", value)


def _s3_config(value: object) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidParameter("s3Config", "must be a JSON object")
    config = {}
    for name in (*_S3_REQUIRED, "objectPath"):
        text = value.get(name)
        if text is None and name not in _S3_REQUIRED:
            continue
        if text is None:
            raise InvalidParameter(f"s3Config.{name}", "is required")
        if not isinstance(text, str) or not text or len(text) > _MAX_S3_CHARS or not text.isprintable():
            raise InvalidParameter(f"s3Config.{name}", f"must be a string of 1 to {_MAX_S3_CHARS} printable characters")
        config[name] = text
    _url("s3Config.endpointUrl", config["endpointUrl"])
    return config


def _url(name: str, value: object) -> str:
    problem = f"must be an http:// or https:// URL of at most {_MAX_URL_CHARS} characters"
    # Spaces and control characters would split a header or a log line further down.
    if not isinstance(value, str) or len(value) > _MAX_URL_CHARS or not all("!" <= char <= "~" for char in value):
        raise InvalidParameter(name, problem)
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise InvalidParameter(name, problem)
    return value
