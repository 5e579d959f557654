"""The price and the time of a job before it is sent."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import admit
from flux_endpoint.api.http import json_reply, read_body
from flux_endpoint.api.parameters import BEARER, ERRORS, EndpointId
from flux_endpoint.api.services import services_of
from flux_endpoint.core.account import Operation
from flux_endpoint.service.job_views import NO_WORKER

# As /run takes it.
_BODY_LIMIT_BYTES: Final = 10 * 2**20

_MS: Final = {"type": "integer", "minimum": 0}
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "cost": {"type": "number", "description": "US dollars, charged when the job is COMPLETED."},
        "executionTime": _MS
        | {"description": "Expected milliseconds on a worker; absent until the endpoint has completed a job."},
        "queueTime": _MS
        | {"description": "Expected milliseconds in the queue; absent without a worker, or before a first job."},
        "jobsAhead": {"type": "integer", "minimum": 0, "description": "Jobs waiting or running on this endpoint."},
        "workers": {"type": "integer", "minimum": 0, "description": "Workers that serve this endpoint."},
        "notice": schemas.NOTICE_SCHEMA
        | {"description": "The job would wait for nobody: no worker of the endpoint is there, and none is starting."},
    },
    "required": ["cost", "jobsAhead", "workers"],
}
_RESPONSES: Final = ERRORS | {
    200: schemas.json_response("What to expect.", _SCHEMA),
    400: schemas.json_response("The input is wrong: the error names the field and its limit.", schemas.ERROR_SCHEMA),
}

router = APIRouter(prefix="/v2/{endpoint_id}", tags=["jobs"], dependencies=[BEARER])


@router.post(
    "/estimate",
    responses=_RESPONSES,
    openapi_extra=schemas.json_body(schemas.SUBMISSION_PLACE),
    summary="Estimate cost and time",
)
async def estimate(request: Request, endpoint_id: EndpointId) -> Response:
    """What the same body sent to `/run` now would cost, and how long it would take. Nothing is queued or charged.

    The times are told from the jobs that this server completed lately on this endpoint, those most alike in pixels and
    steps; jobs that its workers do for other endpoints are not counted.
    """
    services = services_of(request)
    await admit(request, endpoint_id, Operation.ESTIMATE)
    accepted = (await services.endpoints.check(endpoint_id, await read_body(request, _BODY_LIMIT_BYTES))).accepted
    workers = await services.workforce.counts(endpoint_id)
    expected = await services.estimates.estimate(endpoint_id, accepted, workers.ready)
    times = {"executionTime": expected.execution_ms, "queueTime": expected.queue_ms}
    return json_reply(
        {"cost": float(accepted.cost_usd)}
        | {name: value for name, value in times.items() if value is not None}
        | {"jobsAhead": expected.jobs_ahead, "workers": workers.ready}
        | ({} if workers.ready + workers.initializing else {"notice": NO_WORKER})
    )
