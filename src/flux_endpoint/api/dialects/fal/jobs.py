"""Pictures as fal's clients ask for them: held until they are drawn, streamed as they form, or queued."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final, NoReturn

from starlette.responses import Response, StreamingResponse

from flux_endpoint.api.dialects.drawing import TOO_LATE, cancel, drawn, problem_of, submit
from flux_endpoint.api.dialects.fal.answers import (
    TIMEOUT_TYPE,
    failure,
    links_of,
    preview_body,
    result_body,
    status_body,
)
from flux_endpoint.api.dialects.fal.requests import FalRequest, read_request
from flux_endpoint.api.dialects.fal.words import DIALECT, ERROR_TYPE, told
from flux_endpoint.api.dialects.models import endpoint_of, job_of
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import InvalidParameter, NotFound, UnknownJob
from flux_endpoint.core.job import Job, JobStatus, Policy
from flux_endpoint.core.outbound import require_url
from flux_endpoint.core.progress import PREVIEW, read_progress
from flux_endpoint.core.raw_json import write_json
from flux_endpoint.service.endpoint import Endpoint

# Clients in Node give up after 300 s without a header, and ask again: they must have an answer before.
_LONGEST_S: Final = 290.0
# The end of a path.
FROM_PICTURE: Final = "image-to-image"
_EVENTS: Final = "text/event-stream"
_STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def run(call: Call, key: ApiKey, _owner: str, app: str, name: str) -> Response:
    """Draw pictures and answer when they are done. A client that hangs up cancels them.

    `image_size` is a name or an object with `width` and `height`; of `num_images` the seeds follow one another;
    `sync_mode` puts the pictures into the answer. All other inputs of FLUX are taken beside them.
    """
    endpoint = endpoint_of(call.services.endpoints, key, f"{app}-{name}")
    asked = await _read(call)
    ended = await drawn(call, endpoint, DIALECT, asked.submissions(endpoint.spec), _LONGEST_S)
    if not all(job.status.is_terminal for job in ended):
        kind = "request_timeout"
        return json_reply(told(TOO_LATE, kind), 504, {ERROR_TYPE: kind, TIMEOUT_TYPE: "user"})
    done = [job for job in ended if job.status is JobStatus.COMPLETED]
    if not done:
        return failure(ended[0])
    failures = [problem_of(job) for job in ended if job.status is not JobStatus.COMPLETED]
    return json_reply(await result_body(call, endpoint.spec, done, is_inline=asked.is_inline, failures=failures))


async def stream(call: Call, key: ApiKey, _owner: str, app: str, name: str) -> Response:
    """Draw one picture, with previews on the way; the last message is the result. Hanging up cancels it."""
    endpoint = endpoint_of(call.services.endpoints, key, f"{app}-{name}")
    asked = await _read(call)
    [submission] = _only_one(asked, "one picture is streamed at a time").submissions(endpoint.spec)
    [job] = await submit(call, endpoint, DIALECT, [submission], is_held=True)
    return StreamingResponse(_pictures(call, endpoint, asked, job), headers=_STREAM_HEADERS, media_type=_EVENTS)


async def submit_one(call: Call, key: ApiKey, _owner: str, app: str, name: str) -> Response:
    """Queue a picture; ask `status_url` until it is `COMPLETED`, then `response_url`, or name a `fal_webhook`."""
    endpoint = endpoint_of(call.services.endpoints, key, f"{app}-{name}")
    asked = _only_one(await _read(call), "a request in the queue is one picture")
    [made] = asked.submissions(endpoint.spec)
    policy = Policy(low_priority=call.headers.get("x-fal-queue-priority", "").strip().lower() == "low")
    submission = replace(made, policy=policy, webhook=_webhook(call, endpoint))
    [job] = await submit(call, endpoint, DIALECT, [submission], is_held=False)
    view = await call.services.job_views.view(job)
    position = max(0, (view.queue_position or 1) - 1)
    return json_reply({"status": "IN_QUEUE", "queue_position": position} | links_of(call, endpoint.spec, job))


async def status(call: Call, key: ApiKey, _owner: str, _app: str, request_id: str) -> Response:
    """Where a request stands: `IN_QUEUE`, `IN_PROGRESS`, or `COMPLETED`, which what failed is too."""
    endpoint, job = await _found(call, key, request_id)
    view = await call.services.job_views.view(job)
    return json_reply(status_body(call, endpoint.spec, view, with_logs=_with_logs(call)))


async def status_stream(call: Call, key: ApiKey, _owner: str, _app: str, request_id: str) -> Response:
    """The same at each change, as events; the last is `COMPLETED`."""
    endpoint, job = await _found(call, key, request_id)
    return StreamingResponse(_states(call, endpoint, job), headers=_STREAM_HEADERS, media_type=_EVENTS)


async def result(call: Call, key: ApiKey, _owner: str, _app: str, request_id: str) -> Response:
    """The picture of a request that is `COMPLETED`; an error if it has none."""
    endpoint, job = await _found(call, key, request_id)
    if not job.status.is_terminal:
        return json_reply(told("the request is still in progress: ask for its status"), 400)
    if job.status is not JobStatus.COMPLETED:
        return failure(job)
    return json_reply(await result_body(call, endpoint.spec, [job], is_inline=False))


async def cancel_one(call: Call, key: ApiKey, _owner: str, _app: str, request_id: str) -> Response:
    """Stop a request wherever it is."""
    try:
        endpoint, job = await _found(call, key, request_id)
    except UnknownJob as error:
        return json_reply({"status": "NOT_FOUND"} | told(str(error)), 404)
    if job.status.is_terminal or (await endpoint.cancel(job.id)).status is not JobStatus.CANCELLED:
        return json_reply({"status": "ALREADY_COMPLETED"} | told("the request has ended"), 400)
    return json_reply({"status": "CANCELLATION_REQUESTED"}, 202)


async def upload(_call: Call, _key: ApiKey, _kind: str) -> Response:
    """Refused with 501, which no client repeats: files are not kept for themselves."""
    return json_reply(told("files are not kept here: send them as data URIs"), 501)


async def unknown(call: Call, _key: ApiKey, *_path: str) -> NoReturn:
    """Refused: no model is called so."""
    raise NotFound("served here are fal-ai/flux/dev, fal-ai/flux/schnell and the image-to-image of both")


async def _found(call: Call, key: ApiKey, request_id: str) -> tuple[Endpoint, Job]:
    endpoint, job = await job_of(call.services.endpoints, key, request_id, DIALECT)
    # Every answer from here on has its id.
    call.made_id = job.id
    return endpoint, job


async def _read(call: Call) -> FalRequest:
    data = await call.read_body()
    return await call.services.bodies.read(data, read_request, call.url.path.endswith(f"/{FROM_PICTURE}"))


def _only_one(asked: FalRequest, because: str) -> FalRequest:
    if asked.pictures != 1:
        raise InvalidParameter("num_images", f"must be 1 here, because {because}")
    return asked


def _webhook(call: Call, endpoint: Endpoint) -> str | None:
    url = call.query_params.get("fal_webhook")
    if not url:
        return None
    checked = require_url("fal_webhook", url)
    endpoint.outbound.check_literal("fal_webhook", checked)
    return checked


def _with_logs(call: Call) -> bool:
    """Clients in Python write `true`, those in JavaScript `1`."""
    return call.query_params.get("logs", "").lower() in ("1", "true")


async def _states(call: Call, endpoint: Endpoint, job: Job) -> AsyncIterator[str]:
    with_logs = _with_logs(call)
    try:
        async for view in call.services.job_views.follow(job):
            if view is None:
                yield ": still there\n\n"
            else:
                yield _event(status_body(call, endpoint.spec, view, with_logs=with_logs))
    except UnknownJob as error:
        yield _event(told(str(error)))


async def _pictures(call: Call, endpoint: Endpoint, asked: FalRequest, job: Job) -> AsyncIterator[str]:
    """Previews and the result. Clients know no message of an error here: one ends the stream all the same."""
    try:
        last, shown = job, None
        async for view in call.services.job_views.follow(job):
            if view is None:
                yield ": still there\n\n"
                continue
            last = view.job
            preview = (read_progress(last.progress) or {}).get(PREVIEW)
            if preview not in (None, shown):
                shown = preview
                yield _event(preview_body(last, preview))
        if last.status is JobStatus.COMPLETED:
            yield _event(await result_body(call, endpoint.spec, [last], is_inline=asked.is_inline))
        else:
            yield _event(told(problem_of(last) if last.status.is_terminal else TOO_LATE))
            await cancel(endpoint, [last])
    except BaseException:
        await cancel(endpoint, [job])
        raise


def _event(body: object) -> str:
    return f"data: {write_json(body)}\n\n"
