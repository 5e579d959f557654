"""The listing of recent jobs."""

import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import admit
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.parameters import BEARER, ERRORS, EndpointId, WholeNumber, query_parameter
from flux_endpoint.api.services import services_of
from flux_endpoint.core.account import Operation
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import Cursor, Job, JobStatus

_LIMIT: Final = WholeNumber("limit", 1, 100, "How many at most.")
_DEFAULT_LIMIT: Final = 20
# Milliseconds and a row's number, as a page before gave them out.
_CURSOR: Final = re.compile(r"(\d{1,15})-(\d{1,18})", re.ASCII)

_INTEGER: schemas.JsonObject = {"type": "integer"}
_MILLISECONDS: schemas.JsonObject = {"type": "integer", "description": "Milliseconds since 1970-01-01 UTC."}
REQUEST_SCHEMA: schemas.JsonObject = {
    "type": "object",
    "required": ["id", "status", "createdAt", "cost"],
    "properties": {
        "id": {"type": "string"},
        "status": {"type": "string", "enum": [status.value for status in JobStatus]},
        "createdAt": _MILLISECONDS,
        "startedAt": _MILLISECONDS,
        "completedAt": _MILLISECONDS,
        "delayTime": _INTEGER,
        "executionTime": _INTEGER,
        "workerId": {"type": "string"},
        "retries": _INTEGER,
        "cost": {"type": "number", "description": "US dollars: charged, or to be charged; 0 if it ended otherwise."},
        "error": {"type": "string"},
        "batchId": {"type": "string", "description": "The batch it came with."},
    },
}
_PAGE_SCHEMA: schemas.JsonObject = {
    "type": "object",
    "required": ["requests", "limit", "hasMore"],
    "properties": {
        "requests": {"type": "array", "items": REQUEST_SCHEMA},
        "limit": _INTEGER,
        "hasMore": {"type": "boolean"},
        "nextCursor": {"type": "string", "description": "`cursor` of the next page; absent on the last."},
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = ERRORS | {
    200: schemas.json_response("The newest jobs.", _PAGE_SCHEMA),
    400: schemas.json_response("A query parameter is wrong.", schemas.ERROR_SCHEMA),
}
_ANY: Final = "|".join(status.value for status in JobStatus)
_EXTRA = {
    "parameters": [
        query_parameter(
            "status",
            {"type": "string", "pattern": f"^({_ANY})(,({_ANY}))*$", "example": "FAILED,TIMED_OUT"},
            "Only jobs in these states, joined by commas.",
        ),
        _LIMIT.parameter(_DEFAULT_LIMIT),
        query_parameter(
            "cursor",
            {"type": "string", "pattern": f"^{_CURSOR.pattern}$"},
            "`nextCursor` of the page before; without it, the newest jobs.",
        ),
    ]
}

router = APIRouter(prefix="/v2/{endpoint_id}", tags=["jobs"], dependencies=[BEARER])


@router.get("/requests", responses=_RESPONSES, openapi_extra=_EXTRA, summary="List recent jobs")
async def requests(request: Request, endpoint_id: EndpointId) -> Response:
    """The jobs of this endpoint, newest first: states, times and costs, but neither prompts nor pictures.

    Jobs whose result has expired are listed for as long as the server keeps their figures. Pages stay as they are
    while new jobs arrive. A key for some endpoints sees its own jobs only.
    """
    key = await admit(request, endpoint_id, Operation.REQUESTS)
    statuses = _statuses(request)
    limit = _LIMIT.read(request, _DEFAULT_LIMIT)
    jobs, rest = await services_of(request).endpoints.recent(key, endpoint_id, statuses, limit, _cursor(request))
    body: schemas.JsonObject = {"requests": list(map(request_line, jobs)), "limit": limit, "hasMore": rest is not None}
    if rest is not None:
        body["nextCursor"] = f"{rest.created_ms}-{rest.seq}"
    return json_reply(body)


def request_line(job: Job) -> schemas.JsonObject:
    """A job in a listing: figures, neither prompt nor picture."""
    is_unpaid = job.status.is_terminal and job.status is not JobStatus.COMPLETED
    line = {
        "id": job.id,
        "status": job.status.value,
        "createdAt": job.created_ms,
        "completedAt": job.finished_ms,
        "cost": 0 if is_unpaid else float(job.cost_usd),
        "error": job.error,
        "retries": job.retries or None,
        "batchId": job.batch_id,
    }
    # A job that waits again has not been started, as far as its client is concerned.
    if job.status is not JobStatus.IN_QUEUE:
        line |= {
            "startedAt": job.started_ms,
            "delayTime": job.delay_time_ms,
            "executionTime": job.execution_time_ms,
            "workerId": job.last_worker_id,
        }
    return {name: value for name, value in line.items() if value is not None}


def _statuses(request: Request) -> list[JobStatus]:
    text = request.query_params.get("status")
    if text is None:
        return []
    try:
        return [JobStatus(name.strip()) for name in text.split(",")]
    except ValueError:
        raise InvalidRequest(
            f"status is invalid; must be one or several of {', '.join(JobStatus)}, joined by commas"
        ) from None


def _cursor(request: Request) -> Cursor | None:
    text = request.query_params.get("cursor")
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InvalidRequest("cursor is invalid; must be the nextCursor of an answer")
    return Cursor(int(match[1]), int(match[2]))
