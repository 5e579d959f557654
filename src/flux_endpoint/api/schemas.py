"""What clients get: jobs, errors and webhooks as JSON."""

from collections.abc import Sequence
from typing import Any

from flux_endpoint.core.bucket import BUCKET_PATTERN, REGION_PATTERN
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.inputs import or_null
from flux_endpoint.core.job import (
    DEFAULT_TTL_MS,
    EXECUTION_TIMEOUT_MS,
    MAX_QUEUE_POSITION,
    TTL_MS,
    Job,
    JobStatus,
    Policy,
)
from flux_endpoint.core.progress import PREVIEW, read_progress, without_preview
from flux_endpoint.service.job_views import NO_WORKER

JsonObject = dict[str, Any]


def job_body(
    spec: EndpointSpec | None,
    job: Job,
    base_url: str,
    queue_position: int | None = None,
    notice: str | None = None,
    *,
    with_preview: bool = False,
) -> JsonObject:
    """A job as `/status` and `/runsync` show it. Absent keys are left out: official clients choke on null.

    Args:
        spec: the endpoint of the job; None where it is no longer served: its outputs are shown as they are.
        job: what is shown.
        base_url: what the link to its picture starts with.
        queue_position: see `JobStore.queue_position`.
        notice: what to know while the job waits; None for nothing.
        with_preview: whether the latest preview is part of its progress.
    """
    body: JsonObject = {"id": job.id, "status": job.status.value}
    more: JsonObject
    if job.status is JobStatus.IN_QUEUE:
        more = {"queuePosition": queue_position, "notice": notice}
    else:
        more = {
            "delayTime": job.delay_time_ms,
            "executionTime": job.execution_time_ms,
            "workerId": job.last_worker_id,
            "retries": job.retries or None,
            "progress": None if job.progress is None else _progress(job, with_preview=with_preview),
            "output": job.output if spec is None else spec.present(job, lambda key: f"{base_url}/images/{key}"),
            "error": job.error,
        }
    return body | {name: value for name, value in more.items() if value is not None}


def webhook_body(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """A job as its webhook is told: the body of `/status`, and what was asked. The input is the complete one."""
    return job_body(spec, job, base_url) | {"input": job.input, "webhook": job.webhook}


def accepted_body(job: Job) -> JsonObject:
    """A job as `/run` and `/cancel` show it."""
    return {"id": job.id, "status": job.status.value}


def waiting_body(job: Job) -> JsonObject:
    """A job as `/runsync` shows it when the wait is over."""
    body = accepted_body(job)
    _put(body, "progress", _progress(job, with_preview=False))
    return body


def refused_body(job: Job) -> JsonObject:
    """A job that failed on arrival."""
    return {"id": job.id, "status": job.status.value, "error": job.error}


def purge_body(removed: int) -> JsonObject:
    """The answer of `/purge-queue`; its status is in lower case on the real service too."""
    return {"removed": removed, "status": "completed"}


def stream_body(job: Job, chunks: Sequence[Any], position: int | None = None) -> JsonObject:
    """News of a job, as `/stream` shows them: clients index `stream` and `output` unguarded."""
    outputs = list(chunks)
    latest = max((index for index, chunk in enumerate(outputs) if read_progress(chunk)), default=None)
    progress = _progress(job, with_preview=True) or {}
    if latest is not None and PREVIEW in progress:
        outputs[latest] = {**outputs[latest], PREVIEW: progress[PREVIEW]}
    body: JsonObject = {"status": job.status.value, "stream": [{"output": output} for output in outputs]}
    _put(body, "position", position)
    return body


def _progress(job: Job, *, with_preview: bool) -> JsonObject | None:
    progress = read_progress(job.progress)
    if progress is None:
        return None
    return dict(progress) if with_preview else without_preview(progress)


def _put(body: JsonObject, name: str, value: Any) -> None:
    if value is not None:
        body[name] = value


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


def _milliseconds(limits: tuple[int, int], default: int, description: str) -> JsonObject:
    limited: JsonObject = {"type": "integer", "minimum": limits[0], "maximum": limits[1], "default": default}
    return or_null(limited | {"description": description})


_HOST_LABEL = "[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ORIGIN = rf"https?://{_HOST_LABEL}(\.{_HOST_LABEL})*(:[1-9][0-9]{{0,3}})?"
_URL: JsonObject = {"type": "string", "maxLength": 2_000, "pattern": rf"^{_ORIGIN}(/[!-~]*)?$"}
_SHORT_TEXT: JsonObject = {"type": "string", "minLength": 1, "maxLength": 1_000, "pattern": "^[ -~]+$"}

# Between slashes; neither empty nor made of dots alone.
_PATH_PART = r"\.*[ --0-~][ -.0-~]*"

# Clients that leave a form's field empty send "".
WEBHOOK_SCHEMA: JsonObject = {
    "anyOf": [_URL, {"type": "string", "maxLength": 0}, {"type": "null"}],
    "description": "URL that is told the end of the job.",
}

_ENVELOPE: JsonObject = {
    "policy": or_null(
        {
            "type": "object",
            "properties": {
                "executionTimeout": _milliseconds(
                    EXECUTION_TIMEOUT_MS, Policy().execution_timeout_ms, "How long one attempt may run."
                ),
                "ttl": _milliseconds(TTL_MS, DEFAULT_TTL_MS, "How long the job exists at all, from its submission."),
                "lowPriority": or_null({"type": "boolean", "default": False}),
            },
        }
    ),
    "webhook": WEBHOOK_SCHEMA,
    "s3Config": or_null(
        {
            "type": "object",
            "description": "The bucket the result goes to.",
            "required": ["accessId", "accessSecret", "bucketName", "endpointUrl"],
            "properties": {
                "accessId": _SHORT_TEXT,
                "accessSecret": _SHORT_TEXT,
                "bucketName": {"type": "string", "maxLength": 255, "pattern": f"^{BUCKET_PATTERN}$"},
                "endpointUrl": {"type": "string", "maxLength": 1_000, "pattern": rf'^{_ORIGIN}(/[!"$->@-~]*)?$'},
                "objectPath": or_null(_SHORT_TEXT | {"pattern": f"^{_PATH_PART}(/{_PATH_PART})*$"}),
                "region": or_null(
                    {
                        "type": "string",
                        "pattern": f"^{REGION_PATTERN}$",
                        "description": "Default: what the host of a known provider names, else us-east-1.",
                    }
                ),
            },
        }
    ),
}


def submission_schema(spec: EndpointSpec) -> JsonObject:
    """JSON schema of what is sent to `/run` of one endpoint."""
    properties = {"input": dict(spec.accepted_schema)} | _ENVELOPE
    schema: JsonObject = {"type": "object", "required": ["input"], "properties": properties}
    example = spec.example_input
    return schema if example is None else schema | {"examples": [{"input": dict(example)}]}


def is_job(response: JsonObject) -> bool:
    """Whether an OpenAPI response is a job, whose id can be used further."""
    return bool(response.get("content", {}).get("application/json", {}).get("schema") == JOB_SCHEMA)


def _object(properties: JsonObject, required: list[str] | None = None) -> JsonObject:
    schema: JsonObject = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {})


_INTEGER: JsonObject = {"type": "integer"}
_STRING: JsonObject = {"type": "string"}

PROGRESS_SCHEMA: JsonObject = _object(
    {
        "step": {"type": "integer", "minimum": 0, "description": "Steps done."},
        "total": {"type": "integer", "minimum": 0, "description": "Steps in all."},
        "eta_ms": {"type": "integer", "minimum": 0, "description": "Milliseconds until the last of them is done."},
    },
    ["step", "total"],
)

NOTICE_SCHEMA: JsonObject = {
    "const": NO_WORKER,
    "description": "While it waits for nobody: no worker of the endpoint is there, and none is starting.",
}

EVENTS_EXAMPLE = (
    "retry: 2000\n\n"
    'id: 5d1c3bd2a1c0f7e4\nevent: status\ndata: {"id":"eaebd6e7-u1","status":"IN_QUEUE","queuePosition":1}\n\n'
    'id: 0b9f0d0a3c6e4a11\nevent: status\ndata: {"id":"eaebd6e7-u1","status":"IN_PROGRESS","delayTime":12,'
    '"workerId":"local-0","progress":{"step":7,"total":28,"eta_ms":5250,"preview":"data:image/jpeg;base64,..."}}\n\n'
)

_PICTURE_SCHEMA: JsonObject = _object(
    {
        "image_url": {"type": "string", "format": "uri"},
        "result": {"type": "string", "format": "uri", "description": "The same URL."},
        "cost": {"type": "number", "description": "US dollars."},
        "seed": _INTEGER | {"description": "The seed used; draws the same picture again."},
        "warnings": {"type": "array", "items": _STRING},
    }
)

JOB_SCHEMA: JsonObject = _object(
    {
        "id": _STRING,
        "status": {"type": "string", "enum": [status.value for status in JobStatus]},
        "delayTime": _INTEGER | {"description": "Milliseconds in the queue before the last attempt."},
        "executionTime": _INTEGER | {"description": "Milliseconds from the last attempt's start to the end."},
        "workerId": _STRING,
        "retries": _INTEGER | {"description": "How often a lost worker sent the job back to the queue."},
        "queuePosition": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_QUEUE_POSITION,
            "description": f"While it waits: 1 for the next; {MAX_QUEUE_POSITION} from there on.",
        },
        "notice": NOTICE_SCHEMA,
        "progress": PROGRESS_SCHEMA | {"description": "While it runs, once its worker has told."},
        "output": {
            "description": "Of a COMPLETED job; of a running one, what its worker posted as progress.",
            "anyOf": [_PICTURE_SCHEMA, {"description": "What a worker of somebody else's returned, as it is."}],
        },
        "error": _STRING,
    },
    ["id", "status"],
)

ERROR_SCHEMA: JsonObject = _object({"error": _STRING}, ["error"])

PURGE_SCHEMA: JsonObject = _object({"removed": _INTEGER, "status": {"const": "completed"}}, ["removed", "status"])

STREAM_SCHEMA: JsonObject = _object(
    {
        "status": {"type": "string", "enum": [status.value for status in JobStatus]},
        "stream": {"type": "array", "items": _object({"output": {}}, ["output"])},
        "position": _INTEGER | {"description": "For the next call, if this one named a position."},
    },
    ["status", "stream"],
)


def json_response(description: str, schema: JsonObject) -> dict[str, Any]:
    """One entry of an OpenAPI `responses` table."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def too_many_response() -> dict[str, Any]:
    """OpenAPI response of a limit on how much may be asked in a time."""
    seconds = {"description": "Whole seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}}
    response = json_response("A rate limit is reached; nothing was done.", ERROR_SCHEMA)
    return response | {"headers": {"Retry-After": seconds}}


ENDPOINT_PARAMETER_EXAMPLE = FLUX_DEV.endpoint_id
