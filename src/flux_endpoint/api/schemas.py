"""The wire: what clients send and get. Wire names live here and in the OpenAPI description only."""

from collections.abc import Mapping, Sequence
from typing import Any

from flux_endpoint.core.bucket import BUCKET_PATTERN, REGION_PATTERN
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FloatRange, IntRange, ModelSpec
from flux_endpoint.core.endpoint import EndpointSpec, FluxEndpoint
from flux_endpoint.core.envelope import EXECUTION_TIMEOUT_MS, TTL_MS
from flux_endpoint.core.generation import MAX_SEED, RANDOM_SEED
from flux_endpoint.core.image_formats import DEFAULT_FORMAT, IMAGE_FORMATS
from flux_endpoint.core.job import DEFAULT_TTL_MS, MAX_QUEUE_POSITION, POSTED, Job, JobStatus, Policy
from flux_endpoint.core.progress import PREVIEW, read_progress, without_preview
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.service.job_views import NO_WORKER

JsonObject = dict[str, Any]


def job_body(
    job: Job,
    base_url: str,
    queue_position: int | None = None,
    notice: str | None = None,
    *,
    with_preview: bool = False,
) -> JsonObject:
    """A job as `/status` and `/runsync` show it. Absent keys are left out: official clients choke on null.

    Args:
        job: what is shown.
        base_url: what the link to its picture starts with.
        queue_position: see `JobStore.queue_position`.
        notice: what to know while the job waits; None for nothing.
        with_preview: whether the latest preview is part of its progress.
    """
    body: JsonObject = {"id": job.id, "status": job.status.value}
    if job.status is JobStatus.IN_QUEUE:
        _put(body, "queuePosition", queue_position)
        _put(body, "notice", notice)
        return body
    _put(body, "delayTime", job.delay_time_ms)
    _put(body, "executionTime", job.execution_time_ms)
    _put(body, "workerId", job.last_worker_id)
    if job.retries:
        body["retries"] = job.retries
    _put(body, "progress", _progress(job, with_preview=with_preview))
    _put(body, "output", _output(job, base_url))
    _put(body, "error", job.error)
    return body


def webhook_body(job: Job, base_url: str) -> JsonObject:
    """A job as its webhook is told: the body of `/status`, and what was asked. The input is the complete one."""
    return job_body(job, base_url) | {"input": job.input, "webhook": job.webhook}


def accepted_body(job: Job) -> JsonObject:
    """A job as `/run` and `/cancel` show it."""
    return {"id": job.id, "status": job.status.value}


def waiting_body(job: Job) -> JsonObject:
    """A job as `/runsync` shows it when the wait is over."""
    body = accepted_body(job)
    _put(body, "progress", _progress(job, with_preview=False))
    return body


def refused_body(job: Job) -> JsonObject:
    """A job that failed at the door."""
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


def _output(job: Job, base_url: str) -> Any:
    """What the client sees of a result, or of what a worker posted before the end; None for nothing."""
    is_flux = job.endpoint_id in CATALOG
    if job.status is JobStatus.IN_PROGRESS:
        posted = (job.progress or {}).get(POSTED)
        # The AI SDK, made for pictures, breaks off at an output that is no object.
        return posted if not is_flux else _without_cost(posted) if isinstance(posted, Mapping) else None
    if not is_flux:
        return job.output
    if job.status is not JobStatus.COMPLETED:
        return _without_cost(job.output) if isinstance(job.output, Mapping) else job.output
    output = dict(job.output)
    key = output.pop("image_key", None)
    # Not of ours: it lies in the client's bucket, or a third-party worker put it somewhere.
    url = output.get("image_url") if key is None else f"{base_url}/images/{key}"
    cost = {"cost": float(job.cost_usd)}
    if url is None or isinstance(job.input, RawJson) or "seed" not in job.input:
        return output | cost
    # The documentation promises image_url, the live service sends result: clients read either.
    body = {"image_url": url, "result": url} | cost | {"seed": job.input["seed"]}
    # Whatever else a worker says. Of what we know, nothing.
    return body | output | body


def _without_cost(output: Mapping[str, Any]) -> JsonObject:
    # Only what is COMPLETED costs anything, and only we know what.
    return {name: value for name, value in output.items() if name != "cost"}


def _progress(job: Job, *, with_preview: bool) -> JsonObject | None:
    progress = read_progress(job.progress)
    if progress is None:
        return None
    return dict(progress) if with_preview else without_preview(progress)


def _put(body: JsonObject, name: str, value: Any) -> None:
    if value is not None:
        body[name] = value


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


def _number(kind: str, allowed: IntRange | FloatRange, description: str) -> JsonObject:
    schema: JsonObject = {
        "type": kind,
        "minimum": allowed.minimum,
        "maximum": allowed.maximum,
        "default": allowed.default,
        "description": description,
    }
    if isinstance(allowed, IntRange) and allowed.multiple_of > 1:
        schema["multipleOf"] = allowed.multiple_of
    return schema


# What Python takes for white space, and U+0000, which no text may hold.
_BLANK = r"\u0000\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def input_schema(spec: ModelSpec) -> JsonObject:
    """JSON schema of a model's `input`, from its catalogue entry."""
    text = {"type": "string", "maxLength": spec.max_prompt_chars, "pattern": r"^[^\u0000]*$"}
    some_text = text | {"minLength": 1, "pattern": rf"^[^\u0000]*[^{_BLANK}][^\u0000]*$"}
    return {
        "type": "object",
        "title": f"{spec.display_name} input",
        "required": ["prompt"],
        "properties": {
            "prompt": some_text | {"description": "What the picture shows."},
            "negative_prompt": text
            | {"default": "", "description": "What it must not show. Not empty: a second pass per step."},
            "width": _number("integer", spec.size_px, "Pixels."),
            "height": _number("integer", spec.size_px, "Pixels."),
            "num_inference_steps": _number("integer", spec.num_inference_steps, "Denoising steps."),
            "guidance": _number("number", spec.guidance, "Distilled guidance. Without effect on Flux Schnell."),
            "true_cfg_scale": _number("number", spec.true_cfg_scale, "Strength of the negative prompt."),
            "seed": {
                "type": "integer",
                "minimum": RANDOM_SEED,
                "maximum": MAX_SEED,
                "default": RANDOM_SEED,
                "description": "Same seed, same picture. -1 draws one.",
            },
            "image_format": {
                "type": "string",
                "enum": list(IMAGE_FORMATS),
                "default": DEFAULT_FORMAT.name,
            },
        },
    }


def _or_null(schema: JsonObject) -> JsonObject:
    # Null counts as absent: some languages cannot leave a key out.
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | values


def _milliseconds(limits: tuple[int, int], default: int, description: str) -> JsonObject:
    limited: JsonObject = {"type": "integer", "minimum": limits[0], "maximum": limits[1], "default": default}
    return _or_null(limited | {"description": description})


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
    "policy": _or_null(
        {
            "type": "object",
            "properties": {
                "executionTimeout": _milliseconds(
                    EXECUTION_TIMEOUT_MS, Policy().execution_timeout_ms, "How long one attempt may run."
                ),
                "ttl": _milliseconds(TTL_MS, DEFAULT_TTL_MS, "How long the job exists at all, from its submission."),
                "lowPriority": _or_null({"type": "boolean", "default": False}),
            },
        }
    ),
    "webhook": WEBHOOK_SCHEMA,
    "s3Config": _or_null(
        {
            "type": "object",
            "description": "The bucket the result goes to.",
            "required": ["accessId", "accessSecret", "bucketName", "endpointUrl"],
            "properties": {
                "accessId": _SHORT_TEXT,
                "accessSecret": _SHORT_TEXT,
                "bucketName": {"type": "string", "maxLength": 255, "pattern": f"^{BUCKET_PATTERN}$"},
                "endpointUrl": {"type": "string", "maxLength": 1_000, "pattern": rf'^{_ORIGIN}(/[!"$->@-~]*)?$'},
                "objectPath": _or_null(_SHORT_TEXT | {"pattern": f"^{_PATH_PART}(/{_PATH_PART})*$"}),
                "region": _or_null(
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


# Stands in the document for a submission until `document.describe` knows the endpoint.
SUBMISSION_PLACE: JsonObject = {"x-submission": True}


def submission_schema(spec: EndpointSpec) -> JsonObject:
    """JSON schema of what is sent to `/run` of one endpoint."""
    schema: JsonObject = {"type": "object", "required": ["input"], "properties": {"input": _input_of(spec)} | _ENVELOPE}
    if isinstance(spec, FluxEndpoint):
        steps = spec.model.num_inference_steps.default
        prompt = "A serene mountain landscape at sunset"
        example = {"prompt": prompt, "width": 1024, "height": 1024, "num_inference_steps": steps, "seed": 42}
        schema["examples"] = [{"input": example}]
    return schema


def json_body(schema: JsonObject, **others: Any) -> JsonObject:
    """OpenAPI request body that must be sent as JSON."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema} | others}}}


def _input_of(spec: EndpointSpec) -> JsonObject:
    if isinstance(spec, FluxEndpoint):
        schema = input_schema(spec.model)
        required = schema["required"]
        fields = {name: one if name in required else _or_null(one) for name, one in schema["properties"].items()}
        return schema | {"properties": fields}
    # References point into the operator's schema, and would point into this document.
    declared = {} if _has_references(spec.input_schema) else dict(spec.input_schema or {})
    return declared | {"type": "object"}


def _has_references(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(name in ("$ref", "$dynamicRef") or _has_references(item) for name, item in value.items())
    return isinstance(value, list) and any(_has_references(item) for item in value)


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
