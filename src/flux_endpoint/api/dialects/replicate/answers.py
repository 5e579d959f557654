"""What Replicate's clients get: predictions, versions, errors."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from flux_endpoint.api.dialects.drawing import bytes_of, link_to, problem_of
from flux_endpoint.api.dialects.models import model_name
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import read_progress

_OWNER: Final = "black-forest-labs"
_STATUSES: Final = {
    JobStatus.IN_QUEUE: "starting",
    JobStatus.IN_PROGRESS: "processing",
    JobStatus.COMPLETED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.TIMED_OUT: "failed",
    JobStatus.CANCELLED: "canceled",
}
_BAR_CHARS: Final = 10


def error_body(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error with a `detail` that is text, which is all that clients show. Implements `WordsOfErrors`."""
    return {"title": _title(text), "detail": text, "status": status_code, "type": "about:blank"}, "application/json"


def full_name(spec: EndpointSpec) -> str:
    """What an endpoint is called here: `black-forest-labs/flux-dev`."""
    return f"{_OWNER}/{model_name(spec)}"


def version_of(spec: EndpointSpec) -> str:
    """The id of its only version, 64 hexadecimal digits."""
    return hashlib.sha256(full_name(spec).encode()).hexdigest()


def version_body(spec: EndpointSpec) -> JsonObject:
    """The only version of a model."""
    schemas = {"Input": spec.input_schema, "Output": {"type": "array", "items": {"type": "string", "format": "uri"}}}
    return {
        "id": version_of(spec),
        "created_at": _time(0),
        "cog_version": "0.16.0",
        "openapi_schema": {"openapi": "3.0.2", "info": {"title": "Cog"}, "components": {"schemas": schemas}},
    }


async def prediction(call: Call, spec: EndpointSpec, job: Job, *, is_new: bool = False) -> JsonObject:
    """A job as a prediction, its picture included."""
    output = [await _picture(call, spec, job)] if job.status is JobStatus.COMPLETED else None
    return prediction_body(spec, job, call.origin, output, is_new=is_new)


def prediction_body(
    spec: EndpointSpec, job: Job, origin: str, output: Sequence[str] | None, *, is_new: bool = False
) -> JsonObject:
    """A job as a prediction.

    Args:
        spec: its endpoint.
        job: what is shown.
        origin: what links start with.
        output: links to its pictures, or their bytes; None before there are any.
        is_new: whether this answers its creation: clients take all but `starting` for the end of it.
    """
    status = _STATUSES[job.status]
    has_failed = job.status in (JobStatus.FAILED, JobStatus.TIMED_OUT)
    took_ms = job.execution_time_ms
    here = f"{origin}/v1/predictions/{job.id}"
    return {
        "id": job.id,
        "model": full_name(spec),
        "version": version_of(spec),
        "status": "starting" if is_new and not job.status.is_terminal else status,
        "input": job.input if isinstance(job.input, Mapping) else {},
        "output": output,
        "error": problem_of(job) if has_failed else None,
        "logs": _progress_line(job),
        "metrics": {} if took_ms is None else {"predict_time": took_ms / 1_000},
        "created_at": _time(job.created_ms),
        "started_at": _time(job.started_ms),
        "completed_at": _time(job.finished_ms),
        "urls": {"get": here, "cancel": f"{here}/cancel", "stream": f"{here}/stream"},
    } | ({"warnings": list(job.warnings)} if job.warnings else {})


def body_with_links(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """A prediction with links, as its webhook is told it."""
    if spec is None:
        return {"id": job.id, "status": _STATUSES[job.status]}
    output = None
    if job.status is JobStatus.COMPLETED:
        output = [spec.present(job, f"{base_url}/images/")["image_url"]]
    return prediction_body(spec, job, base_url, output)


async def _picture(call: Call, spec: EndpointSpec, job: Job) -> str:
    """A link where it is https; else a data URI, because clients make files of nothing else."""
    shown: Mapping[str, Any] = spec.present(job, "")
    data = None
    if not call.origin.startswith("https:"):
        try:
            data = await bytes_of(call, shown)
        except FluxEndpointError:
            # It has expired: the link says so.
            data = None
    if data is None:
        return link_to(call, shown)
    media_type = IMAGE_FORMATS[job.input["image_format"]].media_type if isinstance(job.input, Mapping) else "image/*"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _progress_line(job: Job) -> str:
    """A line as tqdm writes it, which clients read how far a prediction is from."""
    progress = read_progress(job.progress)
    if progress is None or not progress["total"]:
        return ""
    step, total = progress["step"], progress["total"]
    share = min(1.0, step / total)
    filled = round(share * _BAR_CHARS)
    return f"{share:4.0%}|{'#' * filled}{' ' * (_BAR_CHARS - filled)}| {step}/{total} [00:00<00:00]\n"


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _title(text: str) -> str:
    return re.split("[:;] ", text, maxsplit=1)[0][:80]
