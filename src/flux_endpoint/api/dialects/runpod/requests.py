"""The listing of recent jobs."""

import re
from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.dialects.runpod import answers
from flux_endpoint.api.http import WholeNumber, json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import Cursor, Job, JobStatus
from flux_endpoint.service.endpoint import Endpoint

_LIMIT: Final = WholeNumber("limit", 1, 100, "How many at most.")
_DEFAULT_LIMIT: Final = 20
# Milliseconds and a row's number, as a page before gave them out.
_CURSOR: Final = re.compile(r"(\d{1,15})-(\d{1,18})", re.ASCII)

_INTEGER: JsonObject = {"type": "integer"}
_MILLISECONDS: JsonObject = {"type": "integer", "description": "Milliseconds since 1970-01-01 UTC."}
REQUEST_SCHEMA: JsonObject = {
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
_PAGE_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["requests", "limit", "hasMore"],
    "properties": {
        "requests": {"type": "array", "items": REQUEST_SCHEMA},
        "limit": _INTEGER,
        "hasMore": {"type": "boolean"},
        "nextCursor": {"type": "string", "description": "`cursor` of the next page; absent on the last."},
    },
}
ANSWERS: Final[dict[int | str, JsonObject]] = schemas.ERRORS | {
    200: schemas.json_response("The newest jobs.", _PAGE_SCHEMA),
    400: schemas.json_response("A query parameter is wrong.", schemas.ERROR_SCHEMA),
}
_ANY: Final = "|".join(status.value for status in JobStatus)
STATUS_PARAMETER: Final = schemas.query_parameter(
    "status",
    {"type": "string", "pattern": f"^({_ANY})(,({_ANY}))*$", "example": "FAILED,TIMED_OUT"},
    "Only jobs in these states, joined by commas.",
)
PARAMETERS: Final = (
    STATUS_PARAMETER,
    _LIMIT.parameter(_DEFAULT_LIMIT),
    schemas.query_parameter(
        "cursor",
        {"type": "string", "pattern": f"^{_CURSOR.pattern}$"},
        "`nextCursor` of the page before; without it, the newest jobs.",
    ),
)


async def requests(call: Call, endpoint: Endpoint) -> Response:
    """The jobs of this endpoint, newest first: states, times and costs, but neither prompts nor pictures.

    Jobs whose result has expired are listed for as long as the server keeps their figures. Pages stay as they are
    while new jobs arrive. A key for some endpoints sees its own jobs only.
    """
    statuses = statuses_in(call)
    limit = _LIMIT.read(call, _DEFAULT_LIMIT)
    jobs, rest = await endpoint.recent(statuses, limit, _cursor(call))
    body: JsonObject = {"requests": list(map(request_line, jobs)), "limit": limit, "hasMore": rest is not None}
    if rest is not None:
        body["nextCursor"] = f"{rest.created_ms}-{rest.seq}"
    return json_reply(body)


def request_line(job: Job) -> JsonObject:
    """A job in a listing: figures, neither prompt nor picture."""
    is_unpaid = job.status.is_terminal and job.status is not JobStatus.COMPLETED
    line = {
        "id": job.id,
        "status": job.status.value,
        "createdAt": job.created_ms,
        "completedAt": job.finished_ms,
        "cost": 0 if is_unpaid else float(job.cost_usd),
        "error": answers.error_of(job),
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


def statuses_in(call: Call) -> list[JobStatus]:
    """The states that a query asks for; empty for all.

    Raises:
        InvalidRequest: one of them is none.
    """
    text = call.query_params.get("status")
    if text is None:
        return []
    try:
        return [JobStatus(name.strip()) for name in text.split(",")]
    except ValueError:
        raise InvalidRequest(
            f"status is invalid; must be one or several of {', '.join(JobStatus)}, joined by commas"
        ) from None


def _cursor(call: Call) -> Cursor | None:
    text = call.query_params.get("cursor")
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InvalidRequest("cursor is invalid; must be the nextCursor of an answer")
    return Cursor(int(match[1]), int(match[2]))
