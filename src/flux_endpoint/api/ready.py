"""`GET /ready`: whether this gateway can do its work, for load balancers and orchestrators. No key is asked for."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, JsonObject, Route

_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "unready"]},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["status", "problems"],
}
_ANSWERS: Final[dict[int | str, JsonObject]] = {
    200: schemas.json_response("It can.", _SCHEMA),
    503: schemas.json_response(
        "It cannot, and why; or its database does not answer.", {"anyOf": [_SCHEMA, schemas.ERROR_SCHEMA]}
    ),
}


async def ready(call: Call) -> Response:
    """200 while jobs can be taken and pictures kept, 503 while not.

    Pictures cannot be kept once the image store has said that there is no such bucket or that it may not be used; it is
    asked again every 10 s.
    """
    services = call.services
    # Answers 503 by itself when the database is away.
    await services.workforce.counts()
    problems = [problem for problem in (services.images.problem,) if problem is not None]
    body = {"status": "unready" if problems else "ready", "problems": problems}
    return json_reply(body, 503 if problems else 200)


ROUTES: Final = (
    Route(
        name="ready_ready",
        methods="GET",
        path="/ready",
        access=Everybody(),
        handler=ready,
        summary="Whether the gateway can work",
        tag="operation",
        answers=_ANSWERS,
    ),
)
