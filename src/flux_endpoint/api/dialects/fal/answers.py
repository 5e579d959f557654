"""What fal's clients get: where a request stands, its result, and what its webhook is told."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api.dialects.drawing import bytes_of, link_to, problem_of
from flux_endpoint.api.dialects.fal.words import ERROR_TYPE, told
from flux_endpoint.api.dialects.models import model_name
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import read_progress
from flux_endpoint.service.job_views import JobView

OWNER: Final = "fal-ai"
# By how a job ended without a picture: the status of its result, and the kind of its error.
_FAILURES: Final[Mapping[JobStatus, tuple[int, str]]] = {
    JobStatus.FAILED: (500, "runner_server_error"),
    JobStatus.TIMED_OUT: (504, "request_timeout"),
    JobStatus.CANCELLED: (499, "client_cancelled"),
}
# Clients that read this repeat a 504 no more.
TIMEOUT_TYPE: Final = "x-fal-request-timeout-type"


def links_of(call: Call, spec: EndpointSpec, job: Job) -> JsonObject:
    """The request's id, and where it is asked for; the path names the model's family only, as fal's clients do."""
    here = f"{call.origin}/fal/queue/{OWNER}/{model_name(spec).partition('-')[0]}/requests/{job.id}"
    return {
        "request_id": job.id,
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
    }


def status_body(call: Call, spec: EndpointSpec, view: JobView, *, with_logs: bool) -> JsonObject:
    """Where a request stands: clients know three states, of which the last is also that of what failed."""
    job = view.job
    links = links_of(call, spec, job)
    if job.status is JobStatus.IN_QUEUE:
        return {"status": "IN_QUEUE", "queue_position": max(0, (view.queue_position or 1) - 1)} | links
    logs = {"logs": _logs(job) if with_logs else None}
    if not job.status.is_terminal:
        return {"status": "IN_PROGRESS"} | logs | links
    body = {"status": "COMPLETED", "metrics": {"inference_time": _took_s(job)}} | logs | links
    if job.status in _FAILURES:
        body |= {"error": problem_of(job), "error_type": _FAILURES[job.status][1]}
    return body


def failure(job: Job) -> Response:
    """The result of a request that ended without a picture."""
    status_code, kind = _FAILURES[job.status]
    headers = {ERROR_TYPE: kind} | ({TIMEOUT_TYPE: "user"} if job.status is JobStatus.TIMED_OUT else {})
    return json_reply(told(problem_of(job), kind), status_code, headers)


async def result_body(
    call: Call, spec: EndpointSpec, jobs: Sequence[Job], *, is_inline: bool, failures: Sequence[str] = ()
) -> JsonObject:
    """The pictures of jobs that are COMPLETED.

    Args:
        call: who asks.
        spec: their endpoint.
        jobs: at least one; the answer has the seed of the first.
        is_inline: whether pictures are data URIs, not links.
        failures: why others of the same request have none.
    """
    shown: list[JsonObject] = [spec.present(job, "") for job in jobs]
    images = [
        _image(job, await _inline(call, job, one) if is_inline else link_to(call, one))
        for job, one in zip(jobs, shown, strict=True)
    ]
    warnings = [*failures, *(warning for one in shown for warning in one.get("warnings", ()))]
    return _result(jobs, images) | ({"warnings": list(dict.fromkeys(warnings))} if warnings else {})


def preview_body(job: Job, preview: str) -> JsonObject:
    """What a stream shows of a picture that forms: a small one, as a data URI."""
    return {"images": [{"url": preview, "content_type": preview[5:].partition(";")[0]}], "seed": _input(job)["seed"]}


def webhook_body(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """What the webhook of a request is told at its end."""
    told_first = {"request_id": job.id, "gateway_request_id": job.id}
    if job.status in _FAILURES:
        text = problem_of(job)
        return told_first | {"status": "ERROR", "error": text, "payload": told(text, _FAILURES[job.status][1])}
    if spec is None:
        return told_first | {"status": "OK", "payload": None, "payload_error": "its model is no longer served"}
    shown: JsonObject = spec.present(job, f"{base_url}/images/")
    return told_first | {"status": "OK", "payload": _result([job], [_image(job, shown["image_url"])])}


def _result(jobs: Sequence[Job], images: Sequence[JsonObject]) -> JsonObject:
    asked = _input(jobs[0])
    return {
        "images": images,
        "timings": {"inference": sum(_took_s(job) for job in jobs)},
        "seed": asked["seed"],
        # Nothing is looked for.
        "has_nsfw_concepts": [False] * len(images),
        "prompt": asked["prompt"],
    }


def _image(job: Job, url: str) -> JsonObject:
    asked = _input(job)
    media_type = IMAGE_FORMATS[asked["image_format"]].media_type
    return {"url": url, "width": asked["width"], "height": asked["height"], "content_type": media_type}


async def _inline(call: Call, job: Job, shown: JsonObject) -> str:
    data = await bytes_of(call, shown)
    if data is None:
        return link_to(call, shown)
    return f"data:{_image(job, '')['content_type']};base64,{base64.b64encode(data).decode()}"


def _logs(job: Job) -> list[JsonObject]:
    progress = read_progress(job.progress)
    if progress is None:
        return []
    at = datetime.fromtimestamp((job.started_ms or job.created_ms) / 1_000, UTC)
    message = f"step {progress['step']} of {progress['total']}"
    return [{"message": message, "level": "INFO", "source": "worker", "timestamp": at.isoformat()}]


def _took_s(job: Job) -> float:
    return (job.execution_time_ms or 0) / 1_000


def _input(job: Job) -> Mapping[str, Any]:
    asked = job.input
    assert isinstance(asked, Mapping)
    return asked
