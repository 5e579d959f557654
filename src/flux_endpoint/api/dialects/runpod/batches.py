"""Batches: thousands of requests, collected first and queued together (contract section 1.8)."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import admit
from flux_endpoint.api.front import base_url_of
from flux_endpoint.api.http import json_reply, made_headers, note_made, read_body
from flux_endpoint.api.parameters import BEARER, ERRORS, EndpointId, WholeNumber
from flux_endpoint.api.services import services_of
from flux_endpoint.core.account import Operation
from flux_endpoint.core.batch import MAX_BATCH_REQUESTS, MAX_NAME_CHARS, Batch, BatchStatus
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.raw_json import decode_json

_LIMIT_BYTES: Final = 10 * 2**20
# A name and an address.
_CHANGE_LIMIT_BYTES: Final = 2**16
_DEFAULT_LIMIT: Final = 20

BatchId = Annotated[str, Path(description="As answered when the batch was created.")]

_INTEGER: schemas.JsonObject = {"type": "integer", "minimum": 0}
_MILLISECONDS: schemas.JsonObject = {"type": "integer", "description": "Milliseconds since 1970-01-01 UTC."}
_STATUS: schemas.JsonObject = {"type": "string", "enum": [status.value for status in BatchStatus]}
_BATCH_SCHEMA: schemas.JsonObject = {
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
_REQUEST_SCHEMA: schemas.JsonObject = {
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
_CREATED_SCHEMA: schemas.JsonObject = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {"id": {"type": "string"}, "status": {"const": "DRAFT"}},
}
_ADDED_SCHEMA: schemas.JsonObject = {
    **_BATCH_SCHEMA,
    "properties": {**_BATCH_SCHEMA["properties"], "requestIds": {"type": "array", "items": {"type": "string"}}},
    "required": [*_BATCH_SCHEMA["required"], "requestIds"],
}
_DELETED_SCHEMA: schemas.JsonObject = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {"id": {"type": "string"}, "status": {"const": "DELETED"}},
}


def _page_schema(name: str, item: schemas.JsonObject) -> schemas.JsonObject:
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


def _responses(schema: schemas.JsonObject, **others: str) -> dict[int | str, dict[str, Any]]:
    told = {
        400: "The body or a query parameter is wrong; the text names the request, counted from 0, and the field.",
        404: "No such endpoint, batch or request.",
    }
    told |= {int(code.removeprefix("on_")): text for code, text in others.items()}
    errors = {code: schemas.json_response(text, schemas.ERROR_SCHEMA) for code, text in told.items()}
    return ERRORS | errors | {200: schemas.json_response("Done.", schema)}


_NO_DRAFT: Final = "The batch is no DRAFT any more."
_OFFSET: Final = WholeNumber("offset", 0, 1_000_000, "How many to skip.")
_LIMIT: Final = WholeNumber("limit", 1, 100, "How many at most.")
_PAGE_EXTRA = {"parameters": [_OFFSET.parameter(0), _LIMIT.parameter(_DEFAULT_LIMIT)]}
_SUBMISSIONS: schemas.JsonObject = {
    "type": "array",
    "maxItems": MAX_BATCH_REQUESTS,
    "items": schemas.SUBMISSION_PLACE,
}
_CREATE_EXTRA = schemas.json_body(_SUBMISSIONS)
_ADD_EXTRA = schemas.json_body({"type": "object", "required": ["requests"], "properties": {"requests": _SUBMISSIONS}})
_CHANGE_EXTRA = schemas.json_body(
    {
        "type": "object",
        "properties": {
            "name": {
                "type": ["string", "null"],
                "maxLength": MAX_NAME_CHARS,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
            },
            "webhook": schemas.WEBHOOK_SCHEMA | {"description": "For each request that names none itself."},
        },
    },
    example={"name": "autumn catalogue"},
)

router = APIRouter(prefix="/v2/{endpoint_id}/batch", tags=["batches"], dependencies=[BEARER])


@router.post(
    "",
    responses=_responses(_CREATED_SCHEMA, on_409="The API key has ten active batches on this endpoint."),
    openapi_extra=_CREATE_EXTRA,
    summary="Start a batch",
)
async def create(request: Request, endpoint_id: EndpointId) -> Response:
    """Collect requests, each as `/run` takes it, in a DRAFT. An empty array will do: more can be added later."""
    key = await admit(request, endpoint_id, Operation.BATCH)
    data = await read_body(request, _LIMIT_BYTES)
    batch = await services_of(request).batches.create(key, endpoint_id, data)
    return _made_reply(request, batch, {"id": batch.id, "status": batch.status.value})


@router.get(
    "", responses=_responses(_page_schema("batches", _BATCH_SCHEMA)), openapi_extra=_PAGE_EXTRA, summary="List batches"
)
async def list_batches(request: Request, endpoint_id: EndpointId) -> Response:
    """The batches of this endpoint, newest first. A key for some endpoints sees its own."""
    key = await admit(request, endpoint_id, Operation.STATUS)
    offset, limit = _window(request)
    batches, total = await services_of(request).batches.list_batches(key, endpoint_id, offset, limit)
    return json_reply(_page("batches", list(map(_batch_body, batches)), total, offset, limit))


@router.get("/{batch_id}", responses=_responses(_BATCH_SCHEMA), summary="Read a batch")
async def get(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """Where a batch stands. It is done when `requestCompleted` and `requestFailed` make `requestTotal`."""
    key = await admit(request, endpoint_id, Operation.STATUS)
    return json_reply(_batch_body(await services_of(request).batches.get(key, endpoint_id, batch_id)))


@router.put(
    "/{batch_id}",
    responses=_responses(_BATCH_SCHEMA, on_409=_NO_DRAFT),
    openapi_extra=_CHANGE_EXTRA,
    summary="Name a batch, or give it a webhook",
)
async def change(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """Set `name` and `webhook` of a DRAFT. Null takes one away, what is absent stays."""
    key = await admit(request, endpoint_id, Operation.BATCH)
    body = decode_json(await read_body(request, _CHANGE_LIMIT_BYTES))
    return json_reply(_batch_body(await services_of(request).batches.change(key, endpoint_id, batch_id, body)))


@router.post(
    "/{batch_id}/requests",
    responses=_responses(_ADDED_SCHEMA, on_409="The batch is no DRAFT any more, or would have too many requests."),
    openapi_extra=_ADD_EXTRA,
    summary="Add requests to a batch",
)
async def add(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """Add requests to a DRAFT: all of them, or none when one is wrong. 10 MiB a call, 5,000 requests a batch."""
    key = await admit(request, endpoint_id, Operation.BATCH)
    data = await read_body(request, _LIMIT_BYTES)
    batch, request_ids = await services_of(request).batches.add(key, endpoint_id, batch_id, data)
    return _made_reply(request, batch, _batch_body(batch) | {"requestIds": request_ids})


@router.get(
    "/{batch_id}/requests",
    responses=_responses(_page_schema("requests", _REQUEST_SCHEMA)),
    openapi_extra=_PAGE_EXTRA,
    summary="List the requests of a batch",
)
async def list_requests(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """The requests of a batch with their results: failures first, else in the order they were added.

    Each is a job like any other, under its id, once the batch is finalized.
    """
    services = services_of(request)
    key = await admit(request, endpoint_id, Operation.STATUS)
    offset, limit = _window(request)
    listed, total = await services.batches.list_requests(key, endpoint_id, batch_id, offset, limit)
    spec = services.endpoints.spec(endpoint_id)
    lines = [_request_body(spec, request_id, job, base_url_of(request)) for request_id, job in listed]
    return json_reply(_page("requests", lines, total, offset, limit))


@router.delete(
    "/{batch_id}/requests/{request_id}",
    responses=_responses(_DELETED_SCHEMA, on_409=_NO_DRAFT),
    summary="Take a request out of a batch",
)
async def remove(request: Request, endpoint_id: EndpointId, batch_id: BatchId, request_id: str) -> Response:
    """Take a request out of a DRAFT. Once it is a job, `/cancel/{id}` stops it."""
    key = await admit(request, endpoint_id, Operation.BATCH)
    await services_of(request).batches.remove(key, endpoint_id, batch_id, request_id)
    return json_reply({"id": request_id, "status": "DELETED"})


@router.post(
    "/{batch_id}/finalize",
    responses=_responses(
        _BATCH_SCHEMA,
        on_402="The batch is beyond the API key's monthly budget; nothing was queued.",
        on_409="The batch is neither DRAFT nor FINALIZED, or has no requests.",
    ),
    summary="Queue a batch",
)
async def finalize(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """Make a job of each request, all at once, paid by the key that made the batch. Doing it twice changes nothing."""
    key = await admit(request, endpoint_id, Operation.RUN)
    batch = await services_of(request).batches.finalize(key, endpoint_id, batch_id, base_url_of(request))
    return _made_reply(request, batch, _batch_body(batch))


@router.post("/{batch_id}/cancel", responses=_responses(_BATCH_SCHEMA), summary="Cancel a batch")
async def cancel(request: Request, endpoint_id: EndpointId, batch_id: BatchId) -> Response:
    """Cancel what waits or runs of a batch, or drop a DRAFT with its requests. A batch that is done stays as it is."""
    key = await admit(request, endpoint_id, Operation.CANCEL)
    return json_reply(_batch_body(await services_of(request).batches.cancel(key, endpoint_id, batch_id)))


def _made_reply(request: Request, batch: Batch, body: schemas.JsonObject) -> Response:
    note_made(request, batch.id)
    return json_reply(body, headers=made_headers(request))


def _window(request: Request) -> tuple[int, int]:
    return _OFFSET.read(request, 0), _LIMIT.read(request, _DEFAULT_LIMIT)


def _page(name: str, lines: Sequence[schemas.JsonObject], total: int, offset: int, limit: int) -> schemas.JsonObject:
    has_more = offset + len(lines) < total and len(lines) > 0
    return {name: lines, "total": total, "offset": offset, "limit": limit, "hasMore": has_more}


def _batch_body(batch: Batch) -> schemas.JsonObject:
    body: schemas.JsonObject = {
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


def _request_body(spec: EndpointSpec, request_id: str, job: Job | None, base_url: str) -> schemas.JsonObject:
    if job is None:
        return {"id": request_id, "status": BatchStatus.DRAFT.value}
    line: schemas.JsonObject = {"id": job.id, "status": job.status.value}
    if job.status is JobStatus.IN_QUEUE:
        return line
    if job.status.is_terminal and job.output is not None:
        line["output"] = schemas.job_body(spec, job, base_url)["output"]
    figures = {"error": job.error, "startedAt": job.started_ms, "completedAt": job.finished_ms}
    return line | {name: value for name, value in figures.items() if value is not None}
