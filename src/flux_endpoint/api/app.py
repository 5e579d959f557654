"""The HTTP server: the table of operations, and what is around it."""

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from flux_endpoint.api import catalogue, images, pages, ready
from flux_endpoint.api.dialects.registry import DIALECTS
from flux_endpoint.api.dialects.runpod.operations import WORKER_OPERATIONS
from flux_endpoint.api.document import Document
from flux_endpoint.api.drain import Drain
from flux_endpoint.api.errors import refusal
from flux_endpoint.api.front import CrossOrigin, FrontMiddleware
from flux_endpoint.api.http import ClientLeft, error_object, unless_client_leaves
from flux_endpoint.api.operations import Call, Methods, Route, Table, WordsOfErrors
from flux_endpoint.api.services import Services
from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.core.front import Front

# Every operation of this server, in the order in which the document tells them.
ROUTES: Final[tuple[Route, ...]] = (
    *(route for dialect in DIALECTS.values() for route in dialect.routes),
    *images.ROUTES,
    *catalogue.ROUTES,
    *ready.ROUTES,
    *pages.ROUTES,
)


def create_app(services: Services, front: Front) -> ASGIApp:
    """The gateway as an ASGI application.

    Args:
        services: what answers are made of.
        front: how clients see this server.
    """
    pages.read_files()
    app: ASGIApp = Dispatch(services)
    app = Drain(FrontMiddleware(app, front))
    if front.cors_origins:
        app = CrossOrigin(app, front.cors_origins, WORKER_OPERATIONS)
    return app


class Dispatch:
    """ASGI application that finds the operation of a request, lets the request in and has it answered."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table = Table(ROUTES)
        self._document = Document(ROUTES, services.endpoints.specs).read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        methods, path = self._table.find(scope["path"])
        route = methods.get(scope["method"])
        call = Call(scope, receive, route, self._services, self._document)
        try:
            try:
                if route is None:
                    raise _not_found(methods)
                response = await route.handler(call, *await route.access.admit(call, path))
            except Exception as error:
                response = await self._refuse(call, error, next(iter(methods.values()), None))
            if route is not None and call.made_id is not None:
                response.headers[route.made_header] = call.made_id
            await response(scope, receive, send)
        finally:
            if call.leave is not None:
                call.leave()

    async def _refuse(self, call: Call, error: Exception, kin: Route | None) -> Response:
        """The answer to an error; `kin` is any operation of the same path."""
        if isinstance(error, FluxEndpointError) and call.route is not None and call.route.is_polled:
            try:
                await unless_client_leaves(call, asyncio.sleep(self._services.hot_loop_s))
            except ClientLeft as left:
                error = left
        words: WordsOfErrors = error_object if kin is None else kin.words_of_errors
        return refusal(call, error, words)


def _not_found(methods: Methods) -> HTTPException:
    if not methods:
        return HTTPException(404)
    return HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
