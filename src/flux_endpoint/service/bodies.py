"""Reads what clients and workers send. Small bodies on the spot; big ones in a process of their own.

A body of 20 MB can take seconds to be taken apart and checked, and Python does nothing else in the meantime, whatever
the number of threads. What comes back from that process is small, or text that nobody takes apart again (`RawJson`).
"""

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from anyio import BrokenWorkerProcess, fail_after, to_process

from flux_endpoint.core import ids
from flux_endpoint.core.batch import MAX_BATCH_REQUESTS, BatchRequest
from flux_endpoint.core.endpoint import EndpointSpec, PricedInput
from flux_endpoint.core.envelope import Envelope, fingerprint, parse_envelope
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.raw_json import BIG_CHARS, RawJson, decode_json, raw_if_big
from flux_endpoint.service.reports import words_in

Result = TypeVar("Result")

# Each takes half a GB for the worst of bodies; the others wait.
_AT_ONCE: Final = 2
_MAX_S: Final = 60.0
# All that is read of a worker's report, see `reports.py` and `Workforce.done`.
_REPORT_KEYS: Final = ("status", "output", "error", "returned", "stopPod")
_MAX_ERROR_CHARS: Final = 65_536
_LOW_PRIORITY: Final = 10


@dataclass(frozen=True, slots=True)
class Submission:
    """A body of `/run`, checked.

    Attributes:
        envelope: what came beside the input; its own input is empty.
        accepted: the input, checked and priced.
        fingerprint: tells bodies apart; empty when nobody asked for it.
    """

    envelope: Envelope
    accepted: PricedInput
    fingerprint: str = ""


class Bodies:
    """Reads bodies."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def submission(self, spec: EndpointSpec, data: bytes, *, has_fingerprint: bool = False) -> Submission:
        """A body of `/run`.

        Raises:
            InvalidRequest: it is wrong; the text names the field and its limit.
        """
        return await self._run(len(data), _read_submission, spec, data, has_fingerprint)

    async def requests(self, spec: EndpointSpec, data: bytes, key: str | None = None) -> list[BatchRequest]:
        """A body with requests of a batch: a list, or an object with a list under `key`.

        Raises:
            InvalidRequest: it is wrong; the text names the request, counted from 0, the field and its limit.
        """
        return await self._run(len(data), _read_requests, spec, data, key)

    async def report(self, data: bytes) -> Mapping[str, Any]:
        """A worker's report. What is big in it stays text.

        Raises:
            InvalidRequest: it is no JSON object.
        """
        return await self._run(len(data), _read_report, data)

    async def _run(self, size: int, read: Callable[..., Result], *arguments: Any) -> Result:
        if size <= BIG_CHARS:
            return read(*arguments)
        try:
            async with self._places:
                with fail_after(_MAX_S):
                    done = await to_process.run_sync(_apart, read, *arguments, cancellable=True)
        except TimeoutError:
            raise InvalidRequest(f"Invalid request: to check the body took more than {_MAX_S:g} s") from None
        except BrokenWorkerProcess:
            raise InvalidRequest("Invalid request: the body took more memory to check than there is") from None
        if isinstance(done, _Refused):
            raise InvalidRequest(done.reason)
        return done


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


def _apart(read: Callable[..., Result], *arguments: Any) -> "Result | _Refused":
    """Run in the other process; an error travels as its text."""
    # Nothing here makes cycles, and to look for some takes most of the time. Requests that are small go first.
    gc.disable()
    os.setpriority(os.PRIO_PROCESS, 0, _LOW_PRIORITY)
    try:
        return read(*arguments)
    except InvalidRequest as error:
        return _Refused(str(error))


def _read_submission(spec: EndpointSpec, data: bytes, has_fingerprint: bool) -> Submission:
    body = decode_json(data)
    submission = _submission_of(spec, body, keeps_text=len(data) > BIG_CHARS)
    return replace(submission, fingerprint=fingerprint(body)) if has_fingerprint else submission


def _submission_of(spec: EndpointSpec, body: object, *, keeps_text: bool) -> Submission:
    envelope = parse_envelope(body)
    accepted = spec.accept(envelope.input)
    if keeps_text:
        accepted = replace(accepted, input=raw_if_big(accepted.input))
    return Submission(replace(envelope, input={}), accepted)


def _read_requests(spec: EndpointSpec, data: bytes, key: str | None) -> list[BatchRequest]:
    bodies, where = decode_json(data), "the body"
    if key is not None:
        if not isinstance(bodies, Mapping) or key not in bodies:
            raise InvalidRequest(f"Invalid request: the body must be a JSON object with the key '{key}'")
        bodies, where = bodies[key], key
    if not isinstance(bodies, list):
        raise InvalidRequest(f"Invalid request: {where} must be a JSON array of objects with the key 'input'")
    if len(bodies) > MAX_BATCH_REQUESTS:
        raise InvalidRequest(f"Invalid request: a batch has at most {MAX_BATCH_REQUESTS} requests, not {len(bodies)}")
    requests = []
    for index, body in enumerate(bodies):
        try:
            read = _submission_of(spec, body, keeps_text=len(data) > BIG_CHARS)
        except InvalidRequest as error:
            raise InvalidRequest(f"{at(index)}: {error}") from None
        envelope, accepted = read.envelope, read.accepted
        requests.append(
            BatchRequest(
                id=ids.new_batch_request_id(),
                input=accepted.input,
                cost_usd=accepted.cost_usd,
                policy=envelope.policy,
                webhook=envelope.webhook,
                s3_config=envelope.s3_config,
            )
        )
    return requests


def at(index: int) -> str:
    """The words by which an error names one request of a batch."""
    return f"request {index} (counted from 0)"


def _read_report(data: bytes) -> Mapping[str, Any]:
    report = decode_json(data)
    if not isinstance(report, Mapping):
        raise InvalidRequest("Invalid request: a result must be a JSON object")
    if len(data) <= BIG_CHARS:
        return report
    light = {key: raw_if_big(report[key]) for key in _REPORT_KEYS if key in report}
    error = light.get("error")
    if isinstance(error, RawJson):
        said = report["error"]
        light["error"] = (said if isinstance(said, str) else words_in(said))[:_MAX_ERROR_CHARS]
    return light
