"""The HTTP server: routes put together, and the one table from errors to HTTP codes."""

import logging
from functools import partial
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from flux_endpoint import __version__
from flux_endpoint.api import catalogue, images, pages, ready
from flux_endpoint.api.admission import Doors
from flux_endpoint.api.dialects.runpod import (
    activity,
    batches,
    billing,
    estimate,
    events,
    health,
    jobs,
    requests,
    workers,
)
from flux_endpoint.api.direct import DirectRoutes, Handler
from flux_endpoint.api.document import describe, operation_id
from flux_endpoint.api.drain import Drain
from flux_endpoint.api.front import CrossOrigin, FrontDoor
from flux_endpoint.api.http import ClientLeft, error_reply, json_reply, made_by, made_headers, note_made
from flux_endpoint.api.services import Services
from flux_endpoint.core.errors import (
    Conflict,
    FluxEndpointError,
    Forbidden,
    ImagesRefused,
    InvalidQuery,
    InvalidRequest,
    LeaseLost,
    NotFound,
    OverBudget,
    ResultErased,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
    UnsupportedEncoding,
)
from flux_endpoint.core.front import Front

logger = logging.getLogger(__name__)

# A subclass answers with the code of its nearest base in this table.
HTTP_STATUS: Final[dict[type[FluxEndpointError], int]] = {
    InvalidRequest: 400,
    UnsupportedEncoding: 415,
    InvalidQuery: 422,
    Unauthenticated: 401,
    OverBudget: 402,
    Forbidden: 403,
    TooManyRequests: 429,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    ResultErased: 410,
    StoreUnavailable: 503,
    FluxEndpointError: 500,
}
# Every module with a `router`. Routes are tried in turn: a worker asks twice a job and a client once.
ROUTES: Final = (
    workers,
    jobs,
    health,
    events,
    requests,
    batches,
    estimate,
    billing,
    activity,
    images,
    catalogue,
    ready,
)
# What is asked for every job, or in loops.
DIRECT_ROUTES: Final = (workers, jobs, health)
# nginx's code for a client that closed the connection; nobody reads it.
_CLIENT_LEFT_STATUS = 499
_METHOD_NOT_ALLOWED = 405
# After an answer of 503, which may be over as soon as another process lets go of the database.
_RETRY_S: Final = "1"

_DESCRIPTION = (
    "FLUX.1 pictures over the wire format of Runpod's public endpoints. "
    "Send `Authorization: Bearer <key>`; fetch pictures without a key."
)


def create_app(services: Services, front: Front) -> FastAPI:
    """The gateway as an ASGI application.

    Args:
        services: what answers are made of.
        front: how clients see this server.
    """
    app = FastAPI(
        title="flux-endpoint",
        version=__version__,
        description=_DESCRIPTION,
        generate_unique_id_function=operation_id,
        # The pages of FastAPI load scripts from a public host, and know no prefix; `pages.py` has its own.
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    for module in ROUTES:
        app.include_router(module.router)
    app.include_router(pages.create_router())
    app.openapi = partial(describe, app, services.endpoints.specs)  # type: ignore[method-assign]
    handlers: dict[type[Exception], Handler] = {
        FluxEndpointError: _on_known_error,
        ClientLeft: _on_client_left,
        ClientDisconnect: _on_client_left,
    }
    # The one added last is called first.
    app.add_middleware(DirectRoutes, routers=[module.router for module in DIRECT_ROUTES], handlers=handlers)
    app.add_middleware(Doors)
    app.add_middleware(FrontDoor, front=front)
    app.add_middleware(Drain)
    if front.cors_origins:
        app.add_middleware(CrossOrigin, origins=front.cors_origins)
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    return app


def http_status_of(error: FluxEndpointError) -> int:
    """The HTTP code of an error: that of its nearest base in the table."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


async def _on_known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FluxEndpointError)
    if isinstance(error, StoreUnavailable):
        # The outage has been logged, once for all requests.
        logger.debug("%s %s: %s", request.method, request.url.path[:200], error)
        # Other texts may name a path or a host of the operator's.
        text = str(error) if isinstance(error, ImagesRefused) else _without_storage(request, error)
        return error_reply(request, http_status_of(error), text, {"Retry-After": _RETRY_S})
    if isinstance(error, ResultErased):
        note_made(request, error.job_id)
        body = {"id": error.job_id, "status": error.status, "error": str(error)}
        told = {name: value for name, value in body.items() if value is not None}
        return json_reply(told, http_status_of(error), made_headers(request))
    headers = None
    if isinstance(error, TooManyRequests):
        headers = {"Retry-After": str(error.retry_after_s)}
    elif isinstance(error, UnsupportedEncoding):
        headers = {"Accept-Encoding": "gzip"}
    problems = error.problems if isinstance(error, InvalidQuery) else None
    return error_reply(request, http_status_of(error), str(error), headers, problems)


def _without_storage(request: Request, error: StoreUnavailable) -> str:
    words = "the server cannot reach its storage right now"
    if (made_id := made_by(request)) is not None:
        return f"{words}; {made_id} was accepted: ask for it later instead of sending it again"
    if error.made_id is not None:
        note_made(request, error.made_id)
        return f"{words}, and may have accepted {error.made_id}: ask for it later, before you send it again"
    return f"{words}; try again"


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{error.detail}: {request.method} {request.url.path[:200]}"
    headers = dict(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return error_reply(request, error.status_code, text, headers)


def _methods_of(request: Request) -> set[str]:
    """What the path of a request may be asked with; the framework names the methods of the first route only."""
    methods: set[str] = set()
    for route in [*request.app.routes, *(route for module in ROUTES for route in module.router.routes)]:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods


async def _on_client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT_STATUS)


async def _on_bug(request: Request, error: Exception) -> Response:
    # The traceback goes to the log through uvicorn; the client learns that it is not at fault.
    return error_reply(request, 500, "internal error: the server's log has the details")
