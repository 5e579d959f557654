"""Pictures as clients of this dialect ask for them: held until they are drawn, or streamed as they form."""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, NoReturn

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from flux_endpoint.api.dialects.drawing import TOO_LATE, bytes_of, cancel, drawn, link_to, problem_of, submit
from flux_endpoint.api.dialects.models import endpoint_of
from flux_endpoint.api.dialects.openai.forms import read_edit
from flux_endpoint.api.dialects.openai.requests import ImagesRequest, read_request
from flux_endpoint.api.dialects.openai.words import DIALECT, error_body
from flux_endpoint.api.errors import http_status_of
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import FluxEndpointError, NotFound
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import PREVIEW, read_progress
from flux_endpoint.core.raw_json import write_json
from flux_endpoint.service.endpoint import Endpoint

# OpenAI's clients give up after 600 s and ask again: they must have an answer before.
_LONGEST_S: Final = 590.0
# These clients ask again after a 5xx, for another picture; what has failed would fail again.
_DO_NOT_RETRY: Final = {"x-should-retry": "false"}
_EVENTS: Final = "text/event-stream"
# Proxies must pass each message on at once; the second header says so to nginx.
_STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def generations(call: Call, key: ApiKey) -> Response:
    """Draw pictures and answer when they are done. A client that hangs up cancels them.

    Beside OpenAI's fields every input of FLUX is taken at the same level: `seed`, `negative_prompt`,
    `num_inference_steps` or `steps`, `guidance` or `guidance_scale`, `width` and `height`. Of `n` pictures the seeds
    follow one another. Without `response_format` each has both `b64_json` and `url`.
    """
    data = await call.read_body()
    return await _draw(call, key, await call.services.bodies.read(data, read_request), "image_generation")


async def edits(call: Call, key: ApiKey) -> Response:
    """Draw pictures from one picture; else as `/v1/images/generations`.

    A form with `image`, or `image[]`, once, and `mask`: what is transparent in that is drawn anew, or what is white in
    one without transparency. `strength` says how much of the picture is lost, with a mask all that it marks. Without
    `size` the result has the shape of the picture.
    """
    data = await call.read_body()
    content_type = call.headers.get("content-type", "")
    return await _draw(call, key, await call.services.bodies.read(data, read_edit, content_type), "image_edit")


async def _draw(call: Call, key: ApiKey, asked: ImagesRequest, events: str) -> Response:
    """The pictures that a request asks for; `events` is the first part of the names of events."""
    endpoint = endpoint_of(call.services.endpoints, key, asked.model)
    submissions = asked.submissions(endpoint.spec)
    if asked.is_streamed:
        jobs = await submit(call, endpoint, DIALECT, submissions, is_held=True)
        return StreamingResponse(
            _events(call, endpoint, asked, jobs, events), headers=_STREAM_HEADERS, media_type=_EVENTS
        )
    ended = await drawn(call, endpoint, DIALECT, submissions, _LONGEST_S)
    if not all(job.status.is_terminal for job in ended):
        raise HTTPException(503, TOO_LATE, _DO_NOT_RETRY)
    return json_reply(await _answer(call, endpoint, asked, ended))


async def variations(_call: Call, _key: ApiKey) -> NoReturn:
    """Refused: they need a prompt here."""
    raise NotFound("variations of pictures are not made here: ask /v1/images/edits, with a prompt")


async def _answer(call: Call, endpoint: Endpoint, asked: ImagesRequest, jobs: Sequence[Job]) -> JsonObject:
    """The pictures of the jobs that are COMPLETED.

    Raises:
        HTTPException: there is none.
    """
    done = [job for job in jobs if job.status is JobStatus.COMPLETED]
    failures = [problem_of(job) for job in jobs if job.status is not JobStatus.COMPLETED]
    if not done:
        raise HTTPException(500, failures[0], _DO_NOT_RETRY)
    warnings = failures
    data = []
    for job in done:
        shown = endpoint.spec.present(job, "")
        warnings += shown.get("warnings", ())
        data.append(await _picture(call, asked, shown))
    body: JsonObject = {"created": _created_s(done[0]), "data": data} | _form_of(done[0])
    body["cost"] = float(sum((job.cost_usd for job in done), Decimal(0)))
    # Of several pictures of one request they are the same.
    return body | ({"warnings": list(dict.fromkeys(warnings))} if warnings else {})


async def _picture(call: Call, asked: ImagesRequest, shown: JsonObject) -> JsonObject:
    """One entry of `data`: the picture in the forms that were asked for, and its seed."""
    picture: JsonObject = {}
    data = await bytes_of(call, shown) if asked.with_bytes else None
    if data is not None:
        picture["b64_json"] = base64.b64encode(data).decode()
    # A worker of somebody else's may keep its pictures elsewhere: then there is a link and nothing more.
    if asked.with_link or data is None:
        picture["url"] = link_to(call, shown)
    return picture | {"seed": shown.get("seed")}


async def _events(
    call: Call, endpoint: Endpoint, asked: ImagesRequest, jobs: Sequence[Job], kind: str
) -> AsyncIterator[str]:
    """The pictures one after another, each after at most `partial_images` previews. Comments keep proxies patient."""
    try:
        for job in jobs:
            last, sent = job, 0
            async for view in call.services.job_views.follow(job):
                if view is None:
                    yield ": still there\n\n"
                    continue
                last = view.job
                preview = _preview_due(last, sent, asked.partial_images)
                if preview is not None:
                    yield _event(f"{kind}.partial_image", last, b64_json=preview, partial_image_index=sent)
                    sent += 1
            if last.status is not JobStatus.COMPLETED:
                raise HTTPException(500, problem_of(last))
            picture = await _picture(call, replace(asked, with_bytes=True), endpoint.spec.present(last, ""))
            yield _event(f"{kind}.completed", last, **picture, cost=float(last.cost_usd))
        yield "data: [DONE]\n\n"
    except (FluxEndpointError, HTTPException) as error:
        status_code = error.status_code if isinstance(error, HTTPException) else http_status_of(error)
        text = error.detail if isinstance(error, HTTPException) else str(error)
        body, _ = error_body(status_code, text, made_id=None, problems=(), field=None)
        yield f"data: {write_json(body)}\n\n"
        await cancel(endpoint, jobs)
    except BaseException:
        await cancel(endpoint, jobs)
        raise


def _event(kind: str, job: Job, **more: Any) -> str:
    body = {"type": kind, "created_at": _created_s(job)} | _form_of(job) | more
    return f"event: {kind}\ndata: {write_json(body)}\n\n"


def _preview_due(job: Job, sent: int, wanted: int) -> str | None:
    """The bytes of a preview, base64, when the next of the wanted ones is due: they are spread over the steps."""
    progress = read_progress(job.progress)
    if progress is None or sent >= wanted or PREVIEW not in progress:
        return None
    if progress["step"] * (wanted + 1) < progress["total"] * (sent + 1):
        return None
    _, _, data = str(progress[PREVIEW]).partition(",")
    return data


def _form_of(job: Job) -> JsonObject:
    """What the pictures of a request have in common, in this dialect's words."""
    made = job.input
    assert isinstance(made, Mapping)
    return {
        "size": f"{made['width']}x{made['height']}",
        "output_format": made["image_format"],
        "quality": "auto",
        "background": "opaque",
    }


def _created_s(job: Job) -> int:
    return job.created_ms // 1_000
