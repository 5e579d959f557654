"""Batches: thousands of requests, collected first and queued together (contract section 1.8)."""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.dialects.runpod import answers, job_schemas
from flux_endpoint.api.dialects.runpod.jobs import DIALECT
from flux_endpoint.api.dialects.runpod.submissions import read_requests, read_webhook
from flux_endpoint.api.http import WholeNumber, json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.batch import MAX_BATCH_REQUESTS, MAX_NAME_CHARS, Batch, BatchRequest, BatchStatus
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.raw_json import decode_json
from flux_endpoint.service.endpoint import Endpoint

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DEFAULT_LIMIT: Final = 20
_MAX_TOLD: Final = 10

_INTEGER: JsonObject = {"type": "integer", "minimum": 0}
_MILLISECONDS: JsonObject = {"type": "integer", "description": "Milliseconds since 1970-01-01 UTC."}
_STATUS: JsonObject = {"type": "string", "enum": [status.value for status in BatchStatus]}
BATCH_SCHEMA: JsonObject = {
    "type": "object",
    "required": [
        "id",
        "endpointId",
        "status",
        "requestTotal",
        "requestInProgress",
        "requestCompleted",
        "requestFailed",
        "createdAt",
    ],
    "properties": {
        "id": {"type": "string"},
        "endpointId": {"type": "string"},
        "status": _STATUS,
        "requestTotal": _INTEGER,
        "requestInProgress": _INTEGER,
        "requestCompleted": _INTEGER,
        "requestFailed": _INTEGER | {"description": "FAILED, TIMED_OUT or CANCELLED."},
        "createdAt": _MILLISECONDS,
        "name": {"type": "string"},
        "webhook": {"type": "string"},
    },
}
REQUEST_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"type": "string", "enum": [BatchStatus.DRAFT.value, *(status.value for status in JobStatus)]},
        "output": {"description": "As in /status; absent once it has expired."},
        "error": {"type": "string"},
        "startedAt": _MILLISECONDS,
        "completedAt": _MILLISECONDS,
    },
}
CREATED_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {"id": {"type": "string"}, "status": {"const": "DRAFT"}},
}
ADDED_SCHEMA: JsonObject = {
    **BATCH_SCHEMA,
    "properties": {**BATCH_SCHEMA["properties"], "requestIds": {"type": "array", "items": {"type": "string"}}},
    "required": [*BATCH_SCHEMA["required"], "requestIds"],
}
DELETED_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {"id": {"type": "string"}, "status": {"const": "DELETED"}},
}


def page_schema(name: str, item: JsonObject) -> JsonObject:
    """JSON schema of a page of a list that is called so."""
    return {
        "type": "object",
        "required": [name, "total", "offset", "limit", "hasMore"],
        "properties": {
            name: {"type": "array", "items": item},
            "total": _INTEGER,
            "offset": _INTEGER,
            "limit": _INTEGER,
            "hasMore": {"type": "boolean"},
        },
    }


def replies(schema: JsonObject, others: dict[int, str] | None = None) -> dict[int | str, JsonObject]:
    """The answers of an operation of batches; `others` says what further codes mean."""
    told = {
        400: "The body or a query parameter is wrong; the text names the request, counted from 0, and the field.",
        404: "No such endpoint, batch or request.",
    }
    errors = {code: schemas.json_response(text, schemas.ERROR_SCHEMA) for code, text in (told | (others or {})).items()}
    return schemas.ERRORS | errors | {200: schemas.json_response("Done.", schema)}


NO_DRAFT: Final = "The batch is no DRAFT any more."
_OFFSET: Final = WholeNumber("offset", 0, 1_000_000, "How many to skip.")
_LIMIT: Final = WholeNumber("limit", 1, 100, "How many at most.")
PAGE_PARAMETERS: Final = (_OFFSET.parameter(0), _LIMIT.parameter(_DEFAULT_LIMIT))
CHANGE_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "name": {
            "type": ["string", "null"],
            "maxLength": MAX_NAME_CHARS,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        },
        "webhook": job_schemas.WEBHOOK_SCHEMA | {"description": "For each request that names none itself."},
    },
}


def submissions_schema(spec: EndpointSpec) -> JsonObject:
    """JSON schema of the requests of a batch on one endpoint."""
    return {"type": "array", "maxItems": MAX_BATCH_REQUESTS, "items": job_schemas.submission_schema(spec)}


def addition_schema(spec: EndpointSpec) -> JsonObject:
    """JSON schema of what is added to a batch on one endpoint."""
    return {"type": "object", "required": ["requests"], "properties": {"requests": submissions_schema(spec)}}


async def create(call: Call, endpoint: Endpoint) -> Response:
    """Collect requests, each as `/run` takes it, in a DRAFT. An empty array will do: more can be added later."""
    data = await call.read_body()
    requests = await call.services.bodies.read(data, read_requests, endpoint.spec, endpoint.outbound)
    _tell(call, requests)
    requests = await endpoint.settled(requests, numbered=True)
    batch = await call.services.batches.create(endpoint, f"batch_{uuid.uuid4()}", requests)
    return _made_reply(call, batch, {"id": batch.id, "status": batch.status.value})


def _tell(call: Call, requests: Sequence[BatchRequest]) -> None:
    """Tell what of the requests is not heeded, each thing once; their results tell it each."""
    told: dict[str, str] = {}
    for index, request in enumerate(requests):
        for warning in request.warnings:
            told.setdefault(warning, f"request {index} (counted from 0): {warning}")
    call.tell([*told.values()][:_MAX_TOLD])


async def list_batches(call: Call, endpoint: Endpoint) -> Response:
    """The batches of this endpoint, newest first. A key for some endpoints sees its own."""
    offset, limit = _window(call)
    batches, total = await call.services.batches.list_batches(endpoint, offset, limit)
    return json_reply(_page("batches", list(map(_batch_body, batches)), total, offset, limit))


async def get(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """Where a batch stands. It is done when `requestCompleted` and `requestFailed` make `requestTotal`."""
    return json_reply(_batch_body(await call.services.batches.get(endpoint, batch_id)))


async def change(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """Set `name` and `webhook` of a DRAFT. Null takes one away, what is absent stays."""
    changes = _changes_in(decode_json(await call.read_body()), endpoint)
    return json_reply(_batch_body(await call.services.batches.change(endpoint, batch_id, changes)))


async def add(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """Add requests to a DRAFT: all of them, or none when one is wrong. 10 MiB a call, 5,000 requests a batch."""
    data = await call.read_body()
    batches = call.services.batches
    # Before the long check: a batch that does not exist is the more helpful error.
    await batches.get(endpoint, batch_id)
    requests = await call.services.bodies.read(data, read_requests, endpoint.spec, endpoint.outbound, "requests")
    _tell(call, requests)
    requests = await endpoint.settled(requests, numbered=True)
    batch = await batches.add(endpoint, batch_id, requests)
    return _made_reply(call, batch, _batch_body(batch) | {"requestIds": [request.id for request in requests]})


async def list_requests(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """The requests of a batch with their results: failures first, else in the order they were added.

    Each is a job like any other, under its id, once the batch is finalized.
    """
    services = call.services
    offset, limit = _window(call)
    listed, total = await services.batches.list_requests(endpoint, batch_id, offset, limit)
    lines = [_request_body(endpoint.spec, request_id, job, call.origin) for request_id, job in listed]
    return json_reply(_page("requests", lines, total, offset, limit))


async def remove(call: Call, endpoint: Endpoint, batch_id: str, request_id: str) -> Response:
    """Take a request out of a DRAFT. Once it is a job, `/cancel/{id}` stops it."""
    await call.services.batches.remove(endpoint, batch_id, request_id)
    return json_reply({"id": request_id, "status": "DELETED"})


async def finalize(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """Make a job of each request, all at once, paid by the key that made the batch. Doing it twice changes nothing."""
    batch = await call.services.batches.finalize(endpoint, batch_id, DIALECT, call.origin)
    return _made_reply(call, batch, _batch_body(batch))


async def cancel(call: Call, endpoint: Endpoint, batch_id: str) -> Response:
    """Cancel what waits or runs of a batch, or drop a DRAFT with its requests. A batch that is done stays as it is."""
    return json_reply(_batch_body(await call.services.batches.cancel(endpoint, batch_id)))


def _made_reply(call: Call, batch: Batch, body: JsonObject) -> Response:
    call.made_id = batch.id
    return json_reply(body)


def _changes_in(body: object, endpoint: Endpoint) -> dict[str, str | None]:
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object")
    changes = {"name": _name(body["name"])} if "name" in body else {}
    return changes | ({"webhook": read_webhook(body["webhook"], endpoint.outbound)} if "webhook" in body else {})


def _name(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS or _CONTROL.search(value):
        raise InvalidParameter(
            "name", f"must be a string of at most {MAX_NAME_CHARS} characters, none of them a control character"
        )
    return value


def _window(call: Call) -> tuple[int, int]:
    return _OFFSET.read(call, 0), _LIMIT.read(call, _DEFAULT_LIMIT)


def _page(name: str, lines: Sequence[JsonObject], total: int, offset: int, limit: int) -> JsonObject:
    has_more = offset + len(lines) < total and len(lines) > 0
    return {name: lines, "total": total, "offset": offset, "limit": limit, "hasMore": has_more}


def _batch_body(batch: Batch) -> JsonObject:
    body: JsonObject = {
        "id": batch.id,
        "endpointId": batch.endpoint_id,
        "status": batch.status.value,
        "requestTotal": batch.counts.total,
        "requestInProgress": batch.counts.in_progress,
        "requestCompleted": batch.counts.completed,
        "requestFailed": batch.counts.failed,
        "createdAt": batch.created_ms,
    }
    attributes = {"name": batch.name, "webhook": batch.webhook}
    return body | {name: value for name, value in attributes.items() if value is not None}


def _request_body(spec: EndpointSpec, request_id: str, job: Job | None, base_url: str) -> JsonObject:
    if job is None:
        return {"id": request_id, "status": BatchStatus.DRAFT.value}
    line: JsonObject = {"id": job.id, "status": job.status.value}
    if job.status is JobStatus.IN_QUEUE:
        return line
    if job.status.is_terminal and job.output is not None:
        line["output"] = answers.job_body(spec, job, base_url)["output"]
    figures = {"error": answers.error_of(job), "startedAt": job.started_ms, "completedAt": job.finished_ms}
    return line | {name: value for name, value in figures.items() if value is not None}
