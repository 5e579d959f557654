"""JSON schemas of what clients send and get."""

from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.bucket import BUCKET_PATTERN, REGION_PATTERN
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.inputs import or_null
from flux_endpoint.core.job import (
    DEFAULT_TTL_MS,
    EXECUTION_TIMEOUT_MS,
    MAX_QUEUE_POSITION,
    TTL_MS,
    JobStatus,
    Policy,
)
from flux_endpoint.service.job_views import NO_WORKER


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

ENVELOPE: JsonObject = {
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
    properties = {"input": dict(spec.accepted_schema)} | ENVELOPE
    schema: JsonObject = {"type": "object", "required": ["input"], "properties": properties}
    example = spec.example_input
    return schema if example is None else schema | {"examples": [{"input": dict(example)}]}


def _object(properties: JsonObject, required: list[str] | None = None) -> JsonObject:
    schema: JsonObject = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {})


_INTEGER: JsonObject = {"type": "integer"}
_STRING: JsonObject = {"type": "string"}

PROGRESS_SCHEMA: JsonObject = _object(
    {
        "step": {"type": "integer", "minimum": 0, "description": "Steps done."},
        "total": {"type": "integer", "minimum": 0, "description": "Steps in all."},
        "percent": {
            "type": "integer",
            "minimum": 0,
            "description": "Of the time that the picture takes, decoding and encoding included.",
        },
        "eta_ms": {"type": "integer", "minimum": 0, "description": "Milliseconds until the picture is done."},
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
    '"workerId":"local-0","progress":{"step":7,"total":28,"percent":24,"eta_ms":5550,"preview":"data:image/jpeg;base64,..."}}\n\n'
)

_PICTURE_SCHEMA: JsonObject = _object(
    {
        "image_url": {"type": "string", "format": "uri"},
        "result": {"type": "string", "format": "uri", "description": "The same URL."},
        "images": {
            "type": "array",
            "items": {"type": "string", "format": "uri"},
            "description": "Of a job with several pictures: all of them, the first included.",
        },
        "cost": {"type": "number", "description": "US dollars, of all pictures."},
        "seed": _INTEGER | {"description": "The seed used; draws the same picture again."},
        "seeds": {"type": "array", "items": _INTEGER, "description": "Of `images`."},
        "warnings": {"type": "array", "items": _STRING},
        "acceleration": {
            "enum": [level.value for level in Acceleration],
            "description": "The level it was drawn at; absent where none was asked for.",
        },
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

PURGE_SCHEMA: JsonObject = _object({"removed": _INTEGER, "status": {"const": "completed"}}, ["removed", "status"])

STREAM_SCHEMA: JsonObject = _object(
    {
        "status": {"type": "string", "enum": [status.value for status in JobStatus]},
        "stream": {"type": "array", "items": _object({"output": {}}, ["output"])},
        "position": _INTEGER | {"description": "For the next call, if this one named a position."},
    },
    ["status", "stream"],
)
