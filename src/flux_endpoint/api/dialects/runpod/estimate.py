"""The price and the time of a job before it is sent."""

from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.dialects.runpod import job_schemas
from flux_endpoint.api.dialects.runpod.jobs import receipt_of, submission_in
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import JobStatus
from flux_endpoint.core.prompt_tokens import PromptTokens
from flux_endpoint.service.endpoint import Endpoint
from flux_endpoint.service.job_views import NO_WORKER

_MS: Final = {"type": "integer", "minimum": 0}
_COUNT: Final = {"type": "integer", "minimum": 1}
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
        "tokens": {
            "type": "object",
            "description": "The length of the prompt in tokens for both text encoders, and what each reads at most: "
            "beyond `t5Limit` a prompt is cut. Absent where no prompt is read, and where the gateway was installed "
            "without the extra `engine`.",
            "properties": {name: _COUNT for name in ("t5", "t5Limit", "clip", "clipLimit")},
            "required": ["t5", "t5Limit", "clip", "clipLimit"],
        },
        "notice": job_schemas.NOTICE_SCHEMA
        | {"description": "The job would wait for nobody: no worker of the endpoint is there, and none is starting."},
    },
    "required": ["cost", "jobsAhead", "workers"],
}
ANSWERS: Final = schemas.ERRORS | {
    200: schemas.json_response("What to expect.", _SCHEMA),
    400: schemas.json_response("The input is wrong: the error names the field and its limit.", schemas.ERROR_SCHEMA),
}


async def estimate(call: Call, endpoint: Endpoint) -> Response:
    """What the same body sent to `/run` now would cost, and how long it would take. Nothing is queued or charged.

    The times are computed from the jobs that this server completed lately on this endpoint, those most alike in pixels
    and steps, at the same speed level if there are any; jobs that its workers do for other endpoints are not counted.
    """
    services = call.services
    # Only for what it finds wrong.
    receipt_of(call, sync=False)
    try:
        [submission] = await endpoint.settled([await submission_in(call, endpoint)], keeps=False)
    except InvalidRequest as error:
        return json_reply({"status": JobStatus.FAILED.value, "error": str(error)}, 400)
    workers = await services.workforce.counts(endpoint.id)
    expected = await services.estimates.estimate(endpoint.id, submission.input, workers.ready)
    tokens = await services.estimates.tokens(endpoint.id, submission.input)
    times = {"executionTime": expected.execution_ms, "queueTime": expected.queue_ms}
    return json_reply(
        {"cost": float(submission.cost_usd)}
        | {name: value for name, value in times.items() if value is not None}
        | {"jobsAhead": expected.jobs_ahead, "workers": workers.ready}
        | ({} if tokens is None else {"tokens": _told(tokens)})
        | ({} if workers.ready + workers.initializing else {"notice": NO_WORKER})
    )


def _told(tokens: PromptTokens) -> dict[str, int]:
    return {"t5": tokens.t5, "t5Limit": tokens.t5_limit, "clip": tokens.clip, "clipLimit": tokens.clip_limit}
