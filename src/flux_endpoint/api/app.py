"""The HTTP server: the table of operations, and what is around it."""

import asyncio
from collections.abc import Iterable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from flux_endpoint.api import catalogue, embedded, guides, images, metrics, pages, ready
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.registry import DIALECTS, spoken
from flux_endpoint.api.dialects.runpod.operations import WORKER_OPERATIONS
from flux_endpoint.api.document import Document
from flux_endpoint.api.drain import drain
from flux_endpoint.api.errors import refusal
from flux_endpoint.api.front import CrossOrigin, RequestFront
from flux_endpoint.api.http import BODY_IS_OVER, ClientLeft, error_object, unless_client_leaves
from flux_endpoint.api.operations import Call, Methods, Route, Table, WordsOfErrors
from flux_endpoint.api.services import Services
from flux_endpoint.api.tracing import traced
from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.core.front import Front


def routes_of(dialects: Iterable[Dialect]) -> tuple[Route, ...]:
    """Every operation of a server that speaks some dialects, in the order in which the document tells them."""
    spoken_ones = (route for dialect in dialects for route in dialect.routes)
    about_it = (*catalogue.ROUTES, *embedded.ROUTES, *ready.ROUTES, *metrics.ROUTES, *pages.ROUTES, *guides.ROUTES)
    return (*spoken_ones, *images.ROUTES, *about_it)


ROUTES: Final = routes_of(DIALECTS.values())

# For answers that have no place for a warning: the bytes of a picture, the id of a job.
_WARNING_HEADER: Final = "X-Warning"
# Who sends none of them has no body.
_BODY_HEADERS: Final = frozenset((b"content-length", b"transfer-encoding"))


def create_app(services: Services, front: Front) -> ASGIApp:
    """The gateway as an ASGI application.

    Args:
        services: what answers are made of.
        front: how clients see this server.

    Raises:
        SettingsError: it names a dialect that there is not.
    """
    pages.read_files()
    app: ASGIApp = Dispatch(services, front)
    if front.cors_origins:
        app = CrossOrigin(app, front.cors_origins, WORKER_OPERATIONS)
    return app


class Dispatch:
    """ASGI application that finds the operation of a request, lets the request in and has it answered."""

    def __init__(self, services: Services, front: Front) -> None:
        self._services = services
        self._front = RequestFront(front)
        routes = routes_of(spoken(front.dialects))
        if services.tracer is not None:
            routes = traced(routes, services.tracer)
        self._table = Table(routes)
        self._document = Document(routes, services.endpoints.specs).read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = Call(scope, receive)
        call.services, call.document = self._services, self._document
        methods: Methods = {}
        try:
            try:
                call.origin = self._front.read(scope)
                methods, path = self._table.find(scope["path"])
                route = call.route = methods.get(scope["method"])
                if route is None:
                    raise _not_found(methods)
                response = await route.handler(call, *await route.access.admit(call, path))
            except Exception as error:
                response = await self._refuse(call, error, next(iter(methods.values()), None))
            if call.route is not None and call.made_id is not None:
                response.headers[call.route.made_header] = call.made_id
            for warning in call.warnings:
                response.headers.append(_WARNING_HEADER, warning.encode("ascii", "backslashreplace").decode())
            has_body = not _BODY_HEADERS.isdisjoint(name for name, _ in scope["headers"])
            if has_body and not scope.get(BODY_IS_OVER) and not await drain(scope, receive):
                response.headers["connection"] = "close"
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
