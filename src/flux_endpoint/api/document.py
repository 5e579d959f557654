"""The OpenAPI document, which follows from the table of operations."""

import asyncio
import inspect
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from flux_endpoint import __version__
from flux_endpoint.api import schemas
from flux_endpoint.api.operations import Body, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec

_DESCRIPTION: Final = (
    "FLUX.1 pictures over the wire format of Runpod's public endpoints. "
    "Send `Authorization: Bearer <key>`; fetch pictures without a key."
)
# The raw form of the header, `Authorization: KEY`, has no name in OpenAPI.
_BEARER: Final = {"HTTPBearer": {"type": "http", "scheme": "bearer", "description": "An API key."}}
_ENDPOINT: Final = "endpoint_id"
_PARTS_OF_PATHS: Final[dict[str, JsonObject]] = {
    _ENDPOINT: {"description": "Which model.", "examples": [schemas.ENDPOINT_PARAMETER_EXAMPLE]},
    "job_id": {"description": "As answered by /run or /runsync."},
    "batch_id": {"description": "As answered when the batch was created."},
}


class Document:
    """The OpenAPI document of a server, made when it is asked for first.

    Args:
        routes: its operations.
        specs: the endpoints that it serves.
    """

    def __init__(self, routes: Iterable[Route], specs: Collection[EndpointSpec]) -> None:
        self._routes = routes
        self._specs = specs
        self._lock = asyncio.Lock()
        self._made: JsonObject | None = None

    async def read(self) -> JsonObject:
        """The document, without the address of the server."""
        async with self._lock:
            if self._made is None:
                # In a thread: it takes a while, in which others have their turn.
                self._made = await asyncio.to_thread(describe, self._routes, self._specs)
        return self._made


def describe(routes: Iterable[Route], specs: Collection[EndpointSpec]) -> JsonObject:
    """The OpenAPI document of some operations.

    Where the body differs from endpoint to endpoint there is one path for each of them; all else is told once.
    """
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        if route.is_described:
            by_path.setdefault(route.path, []).append(route)
    paths: dict[str, JsonObject] = {}
    for path, together in by_path.items():
        if any(route.body is not None and callable(route.body.schema) for route in together):
            for spec in specs:
                concrete = path.replace(f"{{{_ENDPOINT}}}", spec.endpoint_id)
                paths[concrete] = dict(one for route in together for one in _of_endpoint(route, spec))
        else:
            paths[path] = dict(one for route in together for one in _of_every_method(route, specs))
    return {
        "openapi": "3.1.0",
        "info": {"title": "flux-endpoint", "description": _DESCRIPTION, "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": _BEARER},
    }


def _of_every_method(route: Route, specs: Collection[EndpointSpec]) -> Iterator[tuple[str, JsonObject]]:
    first, *others = (method for method in route.methods.split() if method != "HEAD")
    endpoint_ids = sorted(spec.endpoint_id for spec in specs)
    described = _operation(route, [_part(name, endpoint_ids) for name in _names_in(route.path)])
    yield first.lower(), described
    for method in others:
        yield (
            method.lower(),
            described
            | {
                "operationId": f"{route.name}_by_{method.lower()}",
                "summary": f"{route.summary} (for clients that {method})",
                "description": f"The same as {first}: one official client {method.lower()}s here. The body is ignored.",
            },
        )


def _of_endpoint(route: Route, spec: EndpointSpec) -> Iterator[tuple[str, JsonObject]]:
    described = _operation(route, [_part(name) for name in _names_in(route.path) if name != _ENDPOINT], spec)
    described["operationId"] += "_" + spec.endpoint_id.replace("-", "_")
    described["summary"] += f": {spec.display_name}"
    if route.follow_ups:
        ids = {"endpoint_id": spec.endpoint_id, "job_id": "$response.body#/id"}
        links = {name: {"operationId": name, "parameters": ids} for name in route.follow_ups}
        described["responses"]["200"] = described["responses"]["200"] | {"links": links}
    yield route.methods.lower(), described


def _operation(route: Route, path: list[JsonObject], spec: EndpointSpec | None = None) -> JsonObject:
    parameters = [*path, *route.parameters]
    described: JsonObject = {
        "tags": [route.tag],
        "summary": route.summary,
        "description": inspect.getdoc(route.handler),
        "operationId": route.name,
        "parameters": parameters,
        "requestBody": None if route.body is None else _body(route.body, spec),
        "responses": {str(status): route.answers[status] for status in sorted(route.answers, key=str)},
        "security": [{name: []} for name in _BEARER] if route.access.needs_key else None,
    }
    return {name: value for name, value in described.items() if value}


def _body(body: Body, spec: EndpointSpec | None) -> JsonObject:
    schema = body.schema
    if callable(schema):
        assert spec is not None
        schema = schema(spec)
    content = {"schema": schema} | ({} if body.example is None else {"example": body.example})
    return {"required": True, "content": {body.media_type: content}}


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _part(name: str, endpoint_ids: Collection[str] = ()) -> JsonObject:
    """A variable part of a path."""
    known = _PARTS_OF_PATHS.get(name, {})
    schema: dict[str, Any] = {"type": "string", "title": name.replace("_", " ").title()} | known
    if name == _ENDPOINT:
        schema["enum"] = endpoint_ids
    told = {key: value for key, value in known.items() if key == "description"}
    return {"name": name, "in": "path", "required": True, "schema": schema} | told
