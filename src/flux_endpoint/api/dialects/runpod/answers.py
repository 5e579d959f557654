"""What clients get: jobs and webhooks as JSON."""

from collections.abc import Sequence
from typing import Any, Final

from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import PREVIEW, read_progress, without_preview

# What ran out, in the product's words and in those of this dialect.
_TOO_LONG: Final = "the job ran longer than its execution timeout of"
_TOO_LONG_HERE: Final = "the job ran longer than its policy.executionTimeout of"


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
            "output": job.output if spec is None else spec.present(job, f"{base_url}/images/"),
            "error": None if job.error is None else error_of(job),
        }
    return body | {name: value for name, value in more.items() if value is not None}


def webhook_body(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """A job as its webhook is told: the body of `/status`, and what was asked. The input is the complete one."""
    return job_body(spec, job, base_url) | {"input": job.input, "webhook": job.webhook}


def error_of(job: Job) -> str | None:
    """Why a job has ended as it has, in the names of this dialect; None for no reason."""
    return None if job.error is None else job.error.replace(_TOO_LONG, _TOO_LONG_HERE)


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
