"""Reads what clients send: `input` and what is around it (contract section 2), alone or many in a batch."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from flux_endpoint.api.dialects.runpod.buckets import parse_bucket
from flux_endpoint.core.batch import MAX_BATCH_REQUESTS, BatchRequest
from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.input_kinds import IntRange
from flux_endpoint.core.inputs import MAX_PICTURES
from flux_endpoint.core.job import EXECUTION_TIMEOUT_MS, TTL_MS, Policy
from flux_endpoint.core.other_names import unknown
from flux_endpoint.core.outbound import OutboundRules, require_url
from flux_endpoint.core.raw_json import BIG_CHARS, decode_json, raw_if_big
from flux_endpoint.core.submission import Submission

# What may stand beside `input`. `timeout` is an option of Runpod's JavaScript client, which sends it along.
_ENVELOPE: Final = frozenset(("input", "policy", "webhook", "s3Config", "timeout"))
# What may stand in the body of `/finish`.
_FINISH_ENVELOPE: Final = frozenset(("picture", "policy", "webhook", "s3Config", "timeout"))
PICTURE: Final = IntRange(1, MAX_PICTURES, 1)
# Of most bodies.
_NO_OPTIONS: Final = (Policy(), None, None)
# Of these nothing is asked further.
_PLAIN: Final = frozenset(("input", "webhook", "timeout"))
_IN_ENVELOPE: Final = {
    "policy": ("executionTimeout", "ttl", "lowPriority"),
    "s3Config": ("accessId", "accessSecret", "bucketName", "endpointUrl", "objectPath", "region"),
}


@dataclass(frozen=True, slots=True)
class Finish:
    """What a client says of a draft that it wants finished.

    Attributes:
        picture: which of the draft's pictures, 1 for the first; None where the client does not say.
        policy, webhook, bucket: see `Job`.
        fingerprint, warnings: see `Submission`.
    """

    picture: int | None
    policy: Policy
    webhook: str | None
    bucket: Bucket | None
    fingerprint: str
    warnings: tuple[str, ...]


def read_submission(data: bytes, spec: EndpointSpec, outbound: OutboundRules, has_fingerprint: bool) -> Submission:
    """What a body of `/run` asks for.

    Args:
        data: the body.
        spec: where to.
        outbound: which places clients may name.
        has_fingerprint: whether it may repeat another.

    Raises:
        InvalidRequest: it is wrong; the text names the field and its limit.
    """
    body = decode_json(data)
    submission = _submission_of(body, spec, outbound, keeps_text=len(data) > BIG_CHARS)
    return replace(submission, fingerprint=fingerprint(body)) if has_fingerprint else submission


def read_finish(data: bytes, outbound: OutboundRules, job_id: str) -> Finish:
    """What a body of `/finish` asks for; none at all asks for nothing special.

    Args:
        data: the body.
        outbound: which places clients may name.
        job_id: of the draft.

    Raises:
        InvalidRequest: it is wrong; the text names the field and its limit.
    """
    body = decode_json(data) if data else {}
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object, or empty")
    picture = body.get("picture")
    if picture is not None:
        picture = PICTURE.read("picture", body)
    policy, webhook, bucket = _options_in(body)
    _check_places(webhook, bucket, outbound)
    warnings = _strange_in(body, _FINISH_ENVELOPE)
    return Finish(picture, policy, webhook, bucket, fingerprint([job_id, body]), warnings)


def read_requests(
    data: bytes, spec: EndpointSpec, outbound: OutboundRules, field: str | None = None
) -> list[BatchRequest]:
    """The requests of a batch in a body: a list, or an object with a list under `field`; else as `read_submission`.

    Raises:
        InvalidRequest: it is wrong; the text names the request, counted from 0, the field and its limit.
    """
    bodies, where = decode_json(data), "the body"
    if field is not None:
        if not isinstance(bodies, Mapping) or field not in bodies:
            raise InvalidRequest(f"Invalid request: the body must be a JSON object with the key '{field}'")
        bodies, where = bodies[field], field
    if not isinstance(bodies, list):
        raise InvalidRequest(f"Invalid request: {where} must be a JSON array of objects with the key 'input'")
    if len(bodies) > MAX_BATCH_REQUESTS:
        raise InvalidRequest(f"Invalid request: a batch has at most {MAX_BATCH_REQUESTS} requests, not {len(bodies)}")
    requests = []
    for index, body in enumerate(bodies):
        try:
            asked = _submission_of(body, spec, outbound, keeps_text=len(data) > BIG_CHARS)
        except InvalidRequest as error:
            raise InvalidRequest(f"request {index} (counted from 0): {error}") from None
        requests.append(
            BatchRequest(
                id=new_batch_request_id(),
                input=asked.input,
                cost_usd=asked.cost_usd,
                policy=asked.policy,
                webhook=asked.webhook,
                bucket=asked.bucket,
                warnings=asked.warnings,
                sent=asked.sent,
            )
        )
    return requests


def new_batch_request_id() -> str:
    """The id of a request of a batch, and later of its job: `req_<uuid4>`."""
    return f"req_{uuid.uuid4()}"


def read_webhook(value: object, outbound: OutboundRules) -> str | None:
    """The URL in a field `webhook`; None for nobody.

    Raises:
        InvalidParameter: it is none that may be called.
    """
    url = _webhook(value)
    if url is not None:
        outbound.check_literal("webhook", url)
    return url


def fingerprint(body: object) -> str:
    """The same text for the same JSON value, whatever the order of its keys: tells whether two bodies are equal."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _submission_of(body: object, spec: EndpointSpec, outbound: OutboundRules, *, keeps_text: bool) -> Submission:
    """What one body asks for. Null counts as absent."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'input'")
    if "input" not in body:
        raise InvalidRequest("Invalid request: the body has no 'input'")
    fields = body["input"]
    if not isinstance(fields, Mapping):
        raise InvalidRequest("Invalid request: 'input' must be a JSON object")
    policy, webhook, bucket = _NO_OPTIONS if len(body) == 1 else _options_in(body)
    accepted = spec.accept(fields)
    if webhook is not None or bucket is not None:
        _check_places(webhook, bucket, outbound)
    if bucket is not None and isinstance(accepted.input, Mapping) and spec.makes_pictures:
        _check_draft_stays(accepted.input)
    input = raw_if_big(accepted.input) if keeps_text else accepted.input
    warnings = accepted.warnings if body.keys() <= _PLAIN else accepted.warnings + _strange_in(body)
    return Submission(input, accepted.cost_usd, policy, webhook, bucket, warnings=warnings, sent=accepted.sent)


def _options_in(body: Mapping[str, Any]) -> tuple[Policy, str | None, Bucket | None]:
    """What stands beside `input`."""
    policy, webhook, bucket = body.get("policy"), body.get("webhook"), body.get("s3Config")
    return (
        Policy() if policy is None else _policy(policy),
        None if webhook is None else _webhook(webhook),
        None if bucket is None else parse_bucket(bucket),
    )


def _check_places(webhook: str | None, bucket: Bucket | None, outbound: OutboundRules) -> None:
    # Refused later anyway; names are looked up only when they are called.
    if webhook is not None:
        outbound.check_literal("webhook", webhook)
    if bucket is not None:
        outbound.check_literal(bucket.url_field, bucket.endpoint_url)


def _check_draft_stays(fields: Mapping[str, Any]) -> None:
    if fields.get("stop_after"):
        problem = "must be 0 with an s3Config: what a draft is finished from is kept on this server, beside its picture"
        raise InvalidParameter("stop_after", problem)


def _strange_in(body: Mapping[str, Any], envelope: frozenset[str] = _ENVELOPE) -> tuple[str, ...]:
    """What stands in an envelope and is not known."""
    strange = unknown(body, envelope)
    for name, known in _IN_ENVELOPE.items():
        if body.get(name) is not None:
            strange += unknown(body[name], known, f"{name}.")
    return strange


def _policy(value: object) -> Policy:
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
