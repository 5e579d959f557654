"""The address to which fal's JavaScript client can send everything: what it wants is in a header."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flux_endpoint.api.operations import Call, Route, Table
from flux_endpoint.core.errors import InvalidRequest

TARGET: Final = "x-fal-target-url"
# Hosts of fal's that are stood in for, and never called.
_PLACES: Final[Mapping[str, str]] = {
    "fal.run": "/fal/run",
    "queue.fal.run": "/fal/queue",
    "rest.fal.ai": "/fal/rest",
}


@dataclass(frozen=True, slots=True)
class NamedOperation:
    """Whoever may ask for what the header names. Implements `Access`."""

    table: Table

    needs_key = True

    async def admit(self, call: Call, path: list[str]) -> Sequence[Any]:
        """See `Access.admit`: the handler gets that of the target, and its arguments.

        From here on the call is one for the target.
        """
        place, query = _place_in(call.headers.get(TARGET, ""))
        methods, parts = self.table.find(place)
        route = methods.get(call.method)
        if route is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))}) if methods else HTTPException(404)
        call.route = route
        call.scope["path"], call.scope["query_string"] = place, query.encode()
        return [route.handler, *await route.access.admit(call, parts)]


async def enter(call: Call, handler: Any, *arguments: Any) -> Response:
    """Answer what the header asks for. No other server is called."""
    answer: Response = await handler(call, *arguments)
    return answer


def door_to(routes: Iterable[Route]) -> NamedOperation:
    """The access of an operation that stands for all these."""
    return NamedOperation(Table(routes))


def _place_in(target: str) -> tuple[str, str]:
    """The path here, and the query, of an address of fal's.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        parts = urlsplit(target)
        prefix = _PLACES.get(parts.netloc.lower()) if parts.scheme == "https" else None
    except ValueError:
        prefix = None
    if prefix is None:
        hosts = ", ".join(_PLACES)
        raise InvalidRequest(f"Invalid request: the header {TARGET} must be an https address of one of {hosts}")
    path = "/".join(part for part in unquote(parts.path).split("/") if part)
    return f"{prefix}/{path}", parts.query
