"""Server-sent events: one job, followed as it goes. For `curl -N`, and for the playground."""

import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from flux_endpoint.api.dialects.runpod import answers, job_schemas
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import ERRORS, JsonObject
from flux_endpoint.api.services import Services
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import StoreUnavailable, UnknownJob
from flux_endpoint.core.job import Job
from flux_endpoint.core.raw_json import write_json
from flux_endpoint.service.endpoint import Endpoint
from flux_endpoint.service.job_views import JobView

logger = logging.getLogger(__name__)

# How long a client shall wait before it comes back when the connection breaks.
_RETRY_MS: Final = 2_000
# OpenAPI 3.1 has no word for a stream: this is one message of it.
_MESSAGE_SCHEMA: Final = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["status", "gone"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
ANSWERS: Final[dict[int | str, JsonObject]] = ERRORS | {
    200: {
        "description": "Messages `event: status`, whose `data` is the body of `/status`; `gone` when its time is over.",
        "content": {"text/event-stream": {"schema": _MESSAGE_SCHEMA, "example": job_schemas.EVENTS_EXAMPLE}},
    },
    204: {"description": "The client has seen the end already, as its `Last-Event-ID` shows: do not come back."},
}


async def events(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """The job at once, then at each change of its state, its place in the queue or its progress.

    The stream ends with the job; the last message has its output. Looking on takes nothing away: any number of
    clients may, and `/stream` has its chunks all the same. A comment every ten seconds keeps proxies from hanging up.
    """
    services, base_url = call.services, call.origin
    job = await endpoint.status(job_id)
    seen_id = call.headers.get("last-event-id")
    is_news = not job.status.is_terminal or seen_id is None
    if not is_news and seen_id == _id_of(_data_of(endpoint.spec, base_url, JobView(job, None, None))):
        return Response(status_code=204)
    # Proxies must pass each message on at once; the second header says so to nginx.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _messages(services, endpoint.spec, base_url, job, seen_id), headers=headers, media_type="text/event-stream"
    )


async def _messages(
    services: Services, spec: EndpointSpec, base_url: str, job: Job, seen_id: str | None
) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    try:
        async for view in services.job_views.follow(job):
            if view is None:
                yield ": nothing new\n\n"
                continue
            data = _data_of(spec, base_url, view)
            message_id = _id_of(data)
            # What differs may be nothing that clients see; or they saw it before their connection broke.
            if message_id != seen_id:
                seen_id = message_id
                yield f"id: {message_id}\nevent: status\ndata: {data}\n\n"
    except UnknownJob as error:
        yield f"event: gone\ndata: {_json({'error': str(error)})}\n\n"
    except StoreUnavailable as error:
        # The client comes back by itself, and is then told as every other.
        logger.debug("events of job %s: %s", job.id, error)


def _data_of(spec: EndpointSpec, base_url: str, view: JobView) -> str:
    return _json(answers.job_body(spec, view.job, base_url, view.queue_position, view.notice, with_preview=True))


def _json(body: object) -> str:
    # Escaped to ASCII as everywhere, and so without line ends, which would end the field.
    return write_json(body)


def _id_of(data: str) -> str:
    """Names what a message says, on every gateway alike: a client that comes back is told only what is new to it."""
    return hashlib.sha256(data.encode()).hexdigest()[:16]
