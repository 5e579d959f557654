"""Predictions as Replicate's clients make, read and cancel them."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from flux_endpoint.api.dialects.drawing import submit
from flux_endpoint.api.dialects.inputs import inputs_in, submission_of
from flux_endpoint.api.dialects.models import endpoint_of, job_of, picture_models, public_job_of
from flux_endpoint.api.dialects.replicate.answers import body_with_links, prediction, version_body, version_of
from flux_endpoint.api.http import json_reply, unless_client_leaves
from flux_endpoint.api.operations import Call
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest, UnknownJob
from flux_endpoint.core.image_formats import WEBP, either
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.outbound import OutboundRules, require_url
from flux_endpoint.core.raw_json import decode_json, write_json
from flux_endpoint.core.shapes import MEGAPIXEL, sides_of
from flux_endpoint.core.submission import Receipt
from flux_endpoint.service.endpoint import Endpoint

DIALECT: Final = "replicate"
# The Python client gives up half a second after what it asks for, and loses the id with it.
_LONGEST_WAIT_S: Final = 60
_PREFER: Final = re.compile(r"\bwait(?:\s*=\s*(\d{1,4}))?")
_PIXELS: Final[Mapping[object, int]] = {"1": MEGAPIXEL, "0.25": MEGAPIXEL // 4}
# Of `prompt_strength`, where Replicate's FLUX starts from a picture.
_STRENGTH: Final = 0.8
_PAGE: Final = 100
# What Replicate tells webhooks of; here it is the end alone.
_END: Final = "completed"
_EVENTS: Final = ("start", "output", "logs", _END)
_STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """What a body asks for.

    Attributes:
        version: the id of a version, or the name of a model; None where the path has the model.
        inputs: what is for FLUX.
        webhook: who is told the end; None for nobody.
        warnings: what of the body is not heeded, a sentence each.
    """

    version: str | None
    inputs: Mapping[str, Any]
    webhook: str | None
    warnings: Sequence[str]


async def create(call: Call, key: ApiKey) -> Response:
    """Queue a prediction of the version or model in the body; else as that of a model."""
    asked = await _read(call)
    if asked.version is None:
        raise InvalidParameter("version", "is required: the id of a version, or the name of a model")
    return await _create(call, key, _model_of(call, asked.version), asked)


async def create_of_model(call: Call, key: ApiKey, owner: str, name: str) -> Response:
    """Queue a prediction; with `Prefer: wait` the answer is held until it is done, 60 seconds at most."""
    return await _create(call, key, f"{owner}/{name}", await _read(call))


async def get(call: Call, key: ApiKey, prediction_id: str) -> Response:
    """Where a prediction stands."""
    endpoint, job = await job_of(call.services.endpoints, key, prediction_id, DIALECT)
    return json_reply(await prediction(call, endpoint.spec, job))


async def cancel(call: Call, key: ApiKey, prediction_id: str) -> Response:
    """Stop a prediction wherever it is; a finished one stays as it is."""
    endpoint, job = await job_of(call.services.endpoints, key, prediction_id, DIALECT)
    return json_reply(await prediction(call, endpoint.spec, await endpoint.cancel(job.id)))


async def listing(call: Call, key: ApiKey) -> Response:
    """The newest predictions that the key sees, with links to their pictures."""
    found: list[tuple[Endpoint, Job]] = []
    for spec in picture_models(call.services.endpoints.specs):
        endpoint = call.services.endpoints.opened(spec.endpoint_id, key)
        jobs, _ = await endpoint.recent(list(JobStatus), _PAGE, None)
        found += [(endpoint, job) for job in jobs if job.dialect == DIALECT]
    found.sort(key=lambda one: one[1].created_ms, reverse=True)
    results = []
    for endpoint, job in found[:_PAGE]:
        # Listings know no outputs. What expires meanwhile is in no listing.
        with contextlib.suppress(UnknownJob):
            results.append(body_with_links(endpoint.spec, await endpoint.status(job.id), call.origin))
    return json_reply({"next": None, "previous": None, "results": results})


async def version(call: Call, key: ApiKey, owner: str, name: str, version_id: str) -> Response:
    """A version of a model; each has one."""
    return json_reply(version_body(endpoint_of(call.services.endpoints, key, f"{owner}/{name}").spec))


async def files(call: Call, key: ApiKey) -> Response:
    """Refused with 501, after which clients send what they have within the input."""
    raise HTTPException(501, "files are not kept here: send them as data URIs")


async def stream(call: Call, prediction_id: str) -> Response:
    """Progress and output as events. No key is asked for, as clients send none: the id cannot be guessed."""
    spec, job = await public_job_of(call.services.endpoints, prediction_id, DIALECT)
    return StreamingResponse(_events(call, spec, job), headers=_STREAM_HEADERS, media_type="text/event-stream")


def read_request(data: bytes, outbound: OutboundRules) -> PredictionRequest:
    """What a body asks for. Null counts as absent.

    Raises:
        InvalidRequest: it is wrong; the text names the field. It holds nothing of what was sent: some clients send
            their own settings, keys included, by mistake.
    """
    body = decode_json(data)
    fields = body.get("input") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(fields, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'input', an object")
    if fields.get("num_outputs") not in (None, 1):
        raise InvalidParameter("num_outputs", "must be 1: make a prediction for each picture")
    asked_version = body.get("version")
    if asked_version is not None and not isinstance(asked_version, str):
        raise InvalidParameter("version", "must be a string")
    inputs = inputs_in(fields, WEBP, but_for=["megapixels"]) | _sides(fields)
    if inputs.get("image") and inputs.keys().isdisjoint(("strength", "prompt_strength")):
        inputs["strength"] = _STRENGTH
    return PredictionRequest(asked_version, inputs, *_webhook(body, outbound))


def _sides(fields: Mapping[str, Any]) -> dict[str, int]:
    """Width and height where megapixels are asked for, no size, and no picture to be like."""
    pixels = fields.get("megapixels")
    if pixels is None or any(fields.get(name) is not None for name in ("width", "height", "size", "image")):
        return {}
    if not (isinstance(pixels, str) and pixels in _PIXELS):
        raise InvalidParameter("megapixels", "must be '1' or '0.25'")
    ratio = fields.get("aspect_ratio")
    width, height = sides_of("1:1" if ratio is None else ratio, _PIXELS[pixels])
    return {"width": width, "height": height}


def _webhook(body: Mapping[str, Any], outbound: OutboundRules) -> tuple[str | None, Sequence[str]]:
    """Who is told the end, and warnings."""
    url, events = body.get("webhook"), body.get("webhook_events_filter")
    if events is not None and not (isinstance(events, list) and all(event in _EVENTS for event in events)):
        raise InvalidParameter("webhook_events_filter", f"must be a list of {either([*map(repr, _EVENTS)])}")
    if url is None or url == "":
        return None, ()
    checked = require_url("webhook", url)
    outbound.check_literal("webhook", checked)
    if not events or set(events) == {_END}:
        return checked, ()
    warning = f"webhook_events_filter: of the events only '{_END}' is told here"
    return checked if _END in events else None, (warning,)


async def _read(call: Call) -> PredictionRequest:
    data = await call.read_body()
    return await call.services.bodies.read(data, read_request, call.services.endpoints.outbound)


async def _create(call: Call, key: ApiKey, model: str, asked: PredictionRequest) -> Response:
    endpoint = endpoint_of(call.services.endpoints, key, model)
    submission = submission_of(endpoint.spec, asked.inputs, webhook=asked.webhook)
    submission = replace(submission, warnings=(*asked.warnings, *submission.warnings))
    wait_s = _wait_s(call.headers.get("prefer", ""))
    with contextlib.ExitStack() as waits:
        ends = []

        def wait_for(receipt: Receipt) -> None:
            # From before it is queued: its end is told then, and need not be read.
            if wait_s:
                ends.append(waits.enter_context(endpoint.ending(receipt.job_id, wait_s)))

        [job] = await submit(call, endpoint, DIALECT, [submission], is_held=False, before_each=wait_for)
        for end_of in ends:
            job = await unless_client_leaves(call, end_of(job))
    return json_reply(await prediction(call, endpoint.spec, job, is_new=True), 201)


def _wait_s(prefer: str) -> float:
    found = _PREFER.search(prefer)
    if found is None:
        return 0
    return max(0.5, min(int(found[1] or _LONGEST_WAIT_S), _LONGEST_WAIT_S) - 0.5)


def _model_of(call: Call, asked: str) -> str:
    """The model that a version belongs to: its id, or `owner/name`, or `owner/name:id`."""
    for spec in picture_models(call.services.endpoints.specs):
        if asked.rpartition(":")[2] == version_of(spec):
            return spec.endpoint_id
    return asked.partition(":")[0]


async def _events(call: Call, spec: EndpointSpec, job: Job) -> AsyncIterator[str]:
    number, line = 0, ""
    try:
        async for view in call.services.job_views.follow(job):
            if view is None:
                yield ": still there\n\n"
                continue
            job = view.job
            shown = await prediction(call, spec, job)
            events = [("logs", shown["logs"].strip())] if shown["logs"] not in ("", line) else []
            line = shown["logs"]
            if job.status is JobStatus.COMPLETED:
                events += [("output", shown["output"][0]), ("done", "{}")]
            elif job.status is JobStatus.CANCELLED:
                events.append(("done", write_json({"reason": "canceled"})))
            elif job.status.is_terminal:
                events += [("error", write_json({"detail": shown["error"]})), ("done", write_json({"reason": "error"}))]
            for name, text in events:
                number += 1
                yield f"event: {name}\nid: {job.created_ms + number}:0\ndata: {text}\n\n"
    except UnknownJob as error:
        yield f"event: error\nid: {number + 1}:0\ndata: {write_json({'detail': str(error)})}\n\n"
