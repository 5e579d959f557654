"""`GET /v2/{endpoint_id}/health`: queue and workers in Runpod's shape, and what each worker does and why."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.http import Flag, json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.job import JobCounts
from flux_endpoint.service.endpoint import Endpoint
from flux_endpoint.service.known_worker import Condition
from flux_endpoint.service.worker_registry import WorkerCounts, WorkerView, count_workers

_DETAILS: Final = Flag(
    "details", "Add what each worker does, why it does not work, its fingerprint, and how it keeps its models."
)
_COUNT: Final[JsonObject] = {"type": "integer"}
_TEXT: Final[JsonObject] = {"type": "string"}


def _counts(*names: str) -> JsonObject:
    return {"type": "object", "properties": {name: _COUNT for name in names}}


_WORKER_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "state": {"type": "string", "enum": [condition.value for condition in Condition]},
        "reason": _TEXT,
        "fingerprint": _TEXT,
        "memory": _TEXT | {"description": "How it keeps its models; of workers that ask this gateway for jobs."},
    },
    "required": ["id", "state"],
}
_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "jobs": _counts("completed", "failed", "inProgress", "inQueue", "retried"),
        "workers": _counts("idle", "initializing", "ready", "running", "throttled", "unhealthy"),
        "details": {"type": "array", "items": _WORKER_SCHEMA},
    },
    "required": ["jobs", "workers"],
}
ANSWERS: Final = schemas.ERRORS | {
    200: schemas.json_response("Counts.", _SCHEMA),
    400: schemas.json_response("`details` is neither true nor false.", schemas.ERROR_SCHEMA),
}
PARAMETERS: Final = (_DETAILS.parameter(),)


async def health(call: Call, endpoint: Endpoint) -> Response:
    """How many jobs of this endpoint (the key's own, if it is for some endpoints) and workers are in each state.

    With `details`, what each worker does, and why it does not work.
    """
    with_details = _DETAILS.read(call)
    jobs = await endpoint.counts()
    workers = await call.services.workforce.workers(endpoint.id)
    body = _body(jobs, count_workers(workers))
    if with_details:
        body["details"] = [_details(worker) for worker in workers]
    return json_reply(body)


def _body(jobs: JobCounts, workers: WorkerCounts) -> JsonObject:
    """Queue and workers of one endpoint, as `/health` shows them."""
    return {
        "jobs": {
            "completed": jobs.completed,
            "failed": jobs.failed,
            "inProgress": jobs.in_progress,
            "inQueue": jobs.in_queue,
            "retried": jobs.retried,
        },
        "workers": {
            "idle": workers.idle,
            "initializing": workers.initializing,
            "ready": workers.ready,
            "running": workers.running,
            "throttled": workers.throttled,
            "unhealthy": workers.unhealthy,
        },
    }


def _details(worker: WorkerView) -> JsonObject:
    body = {"id": worker.id, "state": worker.condition.value}
    more = {"reason": worker.reason, "fingerprint": worker.fingerprint, "memory": worker.memory}
    return body | {name: text for name, text in more.items() if text}
