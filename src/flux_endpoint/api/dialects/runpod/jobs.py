"""The public operations of an endpoint, in the shapes of the Runpod contract."""

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import admit
from flux_endpoint.api.front import base_url_of
from flux_endpoint.api.http import json_reply, made_headers, note_made, read_body, unless_client_leaves
from flux_endpoint.api.parameters import (
    BEARER,
    ERRORS,
    IDEMPOTENCY_PARAMETER,
    POSITION,
    TTL_MS,
    WAIT_MS,
    EndpointId,
    JobId,
)
from flux_endpoint.api.services import services_of
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import Job, JobStatus

# Contract section 1.2: how long /runsync holds.
_WAIT_MS_DEFAULT = 90_000
# Shorter than the 10 s after which Runpod's Python client gives up reading.
_STREAM_WAIT_MS_DEFAULT = 8_000
# Contract section 1.9.
_RUN_LIMIT_BYTES = 10 * 2**20
_RUNSYNC_LIMIT_BYTES = 20 * 2**20

_CONFLICT = schemas.json_response("The Idempotency-Key came with another request body before.", schemas.ERROR_SCHEMA)
_ERASED = schemas.json_response(
    "The Idempotency-Key came with this body before, and the result of its job has been erased.", schemas.JOB_SCHEMA
)
_BUDGET = schemas.json_response(
    "The job is beyond the API key's monthly budget; it was not queued.", schemas.ERROR_SCHEMA
)
_SUBMIT_RESPONSES = ERRORS | {
    402: _BUDGET,
    409: _CONFLICT,
    410: _ERASED,
    200: schemas.json_response("The job.", schemas.JOB_SCHEMA),
    400: schemas.json_response(
        "The input is wrong: a FAILED job whose error names the field and its limit.",
        {"anyOf": [schemas.JOB_SCHEMA, schemas.ERROR_SCHEMA]},
    ),
}
_JOB_RESPONSES = ERRORS | {200: schemas.json_response("The job.", schemas.JOB_SCHEMA)}
_BAD_QUERY = {400: schemas.json_response("A number in the query is out of range.", schemas.ERROR_SCHEMA)}
_READ_RESPONSES = _JOB_RESPONSES | _BAD_QUERY
_RETRY_RESPONSES = _JOB_RESPONSES | {
    402: _BUDGET,
    409: schemas.json_response("The job is in a state that cannot be retried.", schemas.ERROR_SCHEMA),
}
_PURGE_RESPONSES = ERRORS | {200: schemas.json_response("How many.", schemas.PURGE_SCHEMA)}
_STREAM_RESPONSES = ERRORS | _BAD_QUERY | {200: schemas.json_response("The news.", schemas.STREAM_SCHEMA)}
_SUBMIT_EXTRA = schemas.json_body(schemas.SUBMISSION_PLACE) | {"parameters": [IDEMPOTENCY_PARAMETER]}
_RUNSYNC_EXTRA = _SUBMIT_EXTRA | {"parameters": [WAIT_MS.parameter(_WAIT_MS_DEFAULT), IDEMPOTENCY_PARAMETER]}
_STATUS_EXTRA = {"parameters": [TTL_MS.parameter()]}
_WAIT_EXTRA = {"parameters": [WAIT_MS.parameter(_WAIT_MS_DEFAULT)]}
_STREAM_EXTRA = {"parameters": [WAIT_MS.parameter(_STREAM_WAIT_MS_DEFAULT), POSITION.parameter()]}
_IDEMPOTENCY_KEY = "idempotency-key"

router = APIRouter(prefix="/v2/{endpoint_id}", tags=["jobs"], dependencies=[BEARER])


@router.post("/runsync", responses=_SUBMIT_RESPONSES, openapi_extra=_RUNSYNC_EXTRA, summary="Make a picture and wait")
async def runsync(request: Request, endpoint_id: EndpointId) -> Response:
    """Queue a job and hold the request until it is done, or `wait` is over: then poll `/status/{id}`."""
    services = services_of(request)
    key = await admit(request, endpoint_id, Operation.RUNSYNC, may_repeat=_IDEMPOTENCY_KEY in request.headers)
    wait_s = _wait_s(request)
    job = await _submit(request, endpoint_id, key, _RUNSYNC_LIMIT_BYTES, sync=True)
    if _is_refused(job):
        return json_reply(schemas.refused_body(job), 400, made_headers(request))
    job = await unless_client_leaves(request, services.endpoints.wait(key, endpoint_id, job.id, wait_s))
    if not job.status.is_terminal:
        return json_reply(schemas.waiting_body(job), headers=made_headers(request))
    spec = services.endpoints.spec(endpoint_id)
    return json_reply(schemas.job_body(spec, job, base_url_of(request)), headers=made_headers(request))


@router.post("/run", responses=_SUBMIT_RESPONSES, openapi_extra=_SUBMIT_EXTRA, summary="Queue a picture")
async def run(request: Request, endpoint_id: EndpointId) -> Response:
    """Queue a job and answer its id at once; read it with `/status/{id}`."""
    key = await admit(request, endpoint_id, Operation.RUN, may_repeat=_IDEMPOTENCY_KEY in request.headers)
    job = await _submit(request, endpoint_id, key, _RUN_LIMIT_BYTES, sync=False)
    if _is_refused(job):
        return json_reply(schemas.refused_body(job), 400, made_headers(request))
    return json_reply(schemas.accepted_body(job), headers=made_headers(request))


@router.get("/status/{job_id}", responses=_READ_RESPONSES, openapi_extra=_STATUS_EXTRA, summary="Read a job")
async def status(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """Where a job stands, its place in the queue or its progress, and its picture when it is done."""
    services = services_of(request)
    key = await admit(request, endpoint_id, Operation.STATUS)
    ttl_ms = TTL_MS.read(request)
    if ttl_ms is not None:
        key.require_writing("/status?ttl=")
    job = await services.endpoints.status(key, endpoint_id, job_id, ttl_ms)
    return json_reply(await _job_body(request, job))


@router.post(
    "/status/{job_id}",
    responses=_READ_RESPONSES,
    openapi_extra=_STATUS_EXTRA,
    summary="Read a job (for clients that POST)",
)
async def status_by_post(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """The same as GET: one official client posts here. The body is ignored."""
    return await status(request, endpoint_id, job_id)


@router.get("/status-sync/{job_id}", responses=_READ_RESPONSES, openapi_extra=_WAIT_EXTRA, summary="Wait for a job")
async def status_sync(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """Like `/status/{id}`, held until the job is done.

    Official clients ask again without a pause, so a job that still runs is answered only when `wait` is over.
    """
    services = services_of(request)
    key = await admit(request, endpoint_id, Operation.STATUS)
    job = await unless_client_leaves(request, services.endpoints.wait(key, endpoint_id, job_id, _wait_s(request)))
    return json_reply(await _job_body(request, job))


@router.post(
    "/status-sync/{job_id}",
    responses=_READ_RESPONSES,
    openapi_extra=_WAIT_EXTRA,
    summary="Wait for a job (for clients that POST)",
)
async def status_sync_by_post(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """The same as GET: one official client posts here. The body is ignored."""
    return await status_sync(request, endpoint_id, job_id)


@router.get("/stream/{job_id}", responses=_STREAM_RESPONSES, openapi_extra=_STREAM_EXTRA, summary="Follow a job")
async def stream(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """What a job has sent since this API key asked last, held until there is something or the job is done.

    The FLUX endpoints send `{"step", "total", "eta_ms"}` while they draw; the last of these also has `preview`, a small
    picture as a `data:` URL, when there is one. Each key is handed each chunk once. With `position` the caller says
    from where on, and nothing is remembered. A job that lost its worker and starts again sends everything again.
    """
    key = await admit(request, endpoint_id, Operation.STATUS)
    wait_s = _wait_s(request, _STREAM_WAIT_MS_DEFAULT)
    endpoints, position = services_of(request).endpoints, POSITION.read(request)
    if position is None:
        job, chunks = await unless_client_leaves(request, endpoints.stream(key, endpoint_id, job_id, wait_s))
    else:
        news = endpoints.stream_after(key, endpoint_id, job_id, position, wait_s)
        job, chunks, position = await unless_client_leaves(request, news)
    return json_reply(schemas.stream_body(job, chunks, position))


@router.post(
    "/stream/{job_id}",
    responses=_STREAM_RESPONSES,
    openapi_extra=_STREAM_EXTRA,
    summary="Follow a job (for clients that POST)",
)
async def stream_by_post(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """The same as GET: one official client posts here. The body is ignored."""
    return await stream(request, endpoint_id, job_id)


@router.post("/cancel/{job_id}", responses=_JOB_RESPONSES, summary="Stop a job")
async def cancel(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """Take a job out of the queue, or stop it within one step. A finished job stays as it is. Costs nothing."""
    key = await admit(request, endpoint_id, Operation.CANCEL)
    return json_reply(schemas.accepted_body(await services_of(request).endpoints.cancel(key, endpoint_id, job_id)))


@router.post("/retry/{job_id}", responses=_RETRY_RESPONSES, summary="Run a failed job again")
async def retry(request: Request, endpoint_id: EndpointId, job_id: JobId) -> Response:
    """Queue a FAILED or TIMED_OUT job again, under its id and with its seed."""
    key = await admit(request, endpoint_id, Operation.RETRY)
    job = await services_of(request).endpoints.retry(key, endpoint_id, job_id)
    note_made(request, job.id)
    return json_reply(schemas.accepted_body(job), headers=made_headers(request))


@router.post("/purge-queue", responses=_PURGE_RESPONSES, summary="Cancel all waiting jobs")
async def purge_queue(request: Request, endpoint_id: EndpointId) -> Response:
    """Cancel every job that waits on this endpoint, or the key's own if it opens some endpoints; running ones go on."""
    key = await admit(request, endpoint_id, Operation.PURGE_QUEUE)
    return json_reply(schemas.purge_body(await services_of(request).endpoints.purge(key, endpoint_id)))


async def _submit(request: Request, endpoint_id: str, key: ApiKey, limit_bytes: int, *, sync: bool) -> Job:
    services = services_of(request)
    idempotency_key = request.headers.get(_IDEMPOTENCY_KEY)

    def ask_for_job() -> None:
        # Without a name it was counted at the door.
        if idempotency_key is not None:
            services.accounts.ask_for_job(key)

    try:
        data = await read_body(request, limit_bytes)
    except InvalidRequest as error:
        ask_for_job()
        job = await services.endpoints.refuse(endpoint_id, key.id, str(error), sync=sync)
    else:
        job = await services.endpoints.submit(
            endpoint_id,
            key.id,
            data,
            sync=sync,
            idempotency_key=idempotency_key,
            origin=base_url_of(request),
            ask_for_job=ask_for_job,
        )
    note_made(request, job.id)
    return job


async def _job_body(request: Request, job: Job) -> schemas.JsonObject:
    services = services_of(request)
    view = await services.job_views.view(job)
    spec = services.endpoints.spec(job.endpoint_id)
    return schemas.job_body(spec, job, base_url_of(request), view.queue_position, view.notice)


def _is_refused(job: Job) -> bool:
    # Never queued. A job found by its Idempotency-Key may have FAILED later: that is an answer like any other.
    return job.status is JobStatus.FAILED and job.started_ms is None and job.created_ms == job.finished_ms


def _wait_s(request: Request, default_ms: int = _WAIT_MS_DEFAULT) -> float:
    return WAIT_MS.read(request, default_ms) / 1_000
