"""`GET /livez` and `GET /readyz`, for load balancers and orchestrators: whether this gateway lives, and can work."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.schemas import JsonObject

_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "unready"]},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["status", "problems"],
}
_LIVE_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {"status": {"const": "live"}},
    "required": ["status"],
}
_ANSWERS: Final[dict[int | str, JsonObject]] = {
    200: schemas.json_response("It can.", _SCHEMA),
    503: schemas.json_response(
        "It cannot, and why; or its database does not answer.", {"anyOf": [_SCHEMA, schemas.ERROR_SCHEMA]}
    ),
}


async def live(call: Call) -> Response:
    """200 for as long as the process answers at all, whatever becomes of database and image store.

    One that does not should be started anew; one that is not ready should not.
    """
    return json_reply({"status": "live"})


async def ready(call: Call) -> Response:
    """200 while jobs can be taken and pictures kept, 503 while not, and from the moment it is asked to stop.

    Pictures cannot be kept once the image store has said that there is no such bucket or that it may not be used; it is
    asked again every 10 s.
    """
    services = call.services
    if services.leaving.is_set():
        return _reply(["this server is being stopped"])
    # Answers 503 by itself when the database is away.
    await services.workforce.counts()
    return _reply([problem for problem in (services.images.problem,) if problem is not None])


def _reply(problems: list[str]) -> Response:
    body = {"status": "unready" if problems else "ready", "problems": problems}
    return json_reply(body, 503 if problems else 200)


ROUTES: Final = (
    Route(
        name="ready_ready",
        methods="GET",
        path="/readyz",
        access=Everybody(),
        handler=ready,
        summary="Whether the gateway can work",
        tag="operation",
        answers=_ANSWERS,
    ),
    Route(
        name="ready_live",
        methods="GET",
        path="/livez",
        access=Everybody(),
        handler=live,
        summary="Whether the gateway lives",
        tag="operation",
        answers={200: schemas.json_response("It does.", _LIVE_SCHEMA)},
    ),
    # As it was called in 0.1.0.
    Route(name="ready", methods="GET", path="/ready", access=Everybody(), handler=ready, is_described=False),
)
