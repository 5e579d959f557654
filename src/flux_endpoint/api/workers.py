"""The worker protocol: Runpod's own, whose `job-done` may also be the picture itself."""

import hmac
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from flux_endpoint.api.http import decode_json, json_reply, read_body, secret_of, unless_client_leaves
from flux_endpoint.api.services import Services, services_of
from flux_endpoint.core.errors import InvalidRequest, Unauthenticated

# The largest picture, 1536 x 1536 pixels of noise as PNG, is 7 MB.
_IMAGE_LIMIT_BYTES = 32 * 2**20
_RESULT_LIMIT_BYTES = 20 * 2**20
_CHUNK_LIMIT_BYTES = 2**20

# `endpoint_ids` is one id, or several joined by commas for a worker that serves them all.
router = APIRouter(prefix="/v2/{endpoint_ids}", include_in_schema=False)


@router.get("/job-take/{worker_id}")
async def job_take(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """The oldest waiting job, as soon as there is one; 204 when none came in time: ask again at once."""
    services = _authenticate(request)
    take = services.workforce.take(worker_id, endpoint_ids.split(","), services.hold_s)
    claim = await unless_client_leaves(request, take)
    if claim is None:
        return Response(status_code=204)
    return json_reply(
        {
            "id": claim.job.id,
            "input": claim.job.input,
            "endpointId": claim.job.endpoint_id,
            "claimToken": claim.token,
            "leaseMs": services.workforce.lease_ms,
        }
    )


@router.post("/job-done/{worker_id}/{job_id}")
async def job_done(request: Request, endpoint_ids: str, worker_id: str, job_id: str) -> Response:
    """The end of a job: a JSON result or, from our own worker, the picture's file and each `warning` in the query."""
    services = _authenticate(request)
    served, token = endpoint_ids.split(","), _claim_token(request)
    if request.headers.get("content-type", "").startswith("image/"):
        data = await read_body(request, _IMAGE_LIMIT_BYTES)
        warnings = request.query_params.getlist("warning")
        await services.workforce.deliver(served, worker_id, job_id, token, data, warnings)
    else:
        # Official workers send JSON under a form's content type.
        result = _object_in(await read_body(request, _RESULT_LIMIT_BYTES))
        await services.workforce.done(served, worker_id, job_id, token, result)
    return json_reply({})


@router.post("/job-stream/{worker_id}/{job_id}")
async def job_stream(request: Request, endpoint_ids: str, worker_id: str, job_id: str) -> Response:
    """Something for the client before the end of the job."""
    services = _authenticate(request)
    result = _object_in(await read_body(request, _CHUNK_LIMIT_BYTES))
    await services.workforce.send_chunk(worker_id, job_id, _claim_token(request), result)
    return json_reply({})


@router.get("/job-stop/{worker_id}")
async def job_stop(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """Jobs to stop, as soon as there are any; 204 when none came in time: ask again."""
    services = _authenticate(request)
    stops = await unless_client_leaves(request, services.workforce.stops(worker_id, services.hold_s))
    return json_reply({"jobsToStop": stops}) if stops else Response(status_code=204)


@router.get("/ping/{worker_id}")
async def ping(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """Renew the leases of the named jobs; the answer lists those that are no longer the worker's."""
    services = _authenticate(request)
    job_ids = [job_id for job_id in request.query_params.get("job_id", "").split(",") if job_id]
    not_held = await services.workforce.ping(worker_id, job_ids)
    return json_reply({"jobsToStop": sorted(not_held)})


def _authenticate(request: Request) -> Services:
    services = services_of(request)
    if not hmac.compare_digest(secret_of(request).encode(), services.worker_token.encode()):
        raise Unauthenticated("missing or wrong worker token: check FLUX_ENDPOINT_WORKER_TOKEN of the worker")
    return services


def _object_in(data: bytes) -> Mapping[str, Any]:
    result = decode_json(data)
    if not isinstance(result, Mapping):
        raise InvalidRequest("Invalid request: a result must be a JSON object")
    return result


def _claim_token(request: Request) -> int | None:
    """The fencing token; absent from foreign workers, whose protocol has no place for it."""
    text = request.query_params.get("claimToken")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest("Invalid request: claimToken must be a number")
    return int(text)
