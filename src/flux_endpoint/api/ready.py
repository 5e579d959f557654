"""`GET /ready`: whether this gateway can do its work, for load balancers and orchestrators. No key is asked for."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.services import services_of

router = APIRouter(tags=["operation"])

_SCHEMA: Final[schemas.JsonObject] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "unready"]},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["status", "problems"],
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: schemas.json_response("It can.", _SCHEMA),
    503: schemas.json_response(
        "It cannot, and why; or its database does not answer.", {"anyOf": [_SCHEMA, schemas.ERROR_SCHEMA]}
    ),
}


@router.get("/ready", responses=_RESPONSES, summary="Whether the gateway can work")
async def ready(request: Request) -> Response:
    """200 while jobs can be taken and pictures kept, 503 while not.

    Pictures cannot be kept once the image store has said that there is no such bucket or that it may not be used; it is
    asked again every 10 s.
    """
    services = services_of(request)
    # Answers 503 by itself when the database is away.
    await services.workforce.counts()
    problems = [problem for problem in (services.images.problem,) if problem is not None]
    body = {"status": "unready" if problems else "ready", "problems": problems}
    return json_reply(body, 503 if problems else 200)
