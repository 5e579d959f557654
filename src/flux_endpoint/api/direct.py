"""The shortest way to the routes that are asked for every job.

Their functions take the request and the parts of its path and return a whole response, so that FastAPI has nothing to
do for them at run time but to find them; that costs more than the queue does. It keeps describing them, and serves
everything else.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Handler = Callable[[Request, Exception], Awaitable[Response]]

_FORM: Final = re.compile(r"/v2/({\w+})/([a-z-]+)((?:/{\w+})*)")
_NAME: Final = re.compile(r"{(\w+)}")
# In a path split at its slashes: nothing, "v2", the endpoint, the operation.
_OPERATION: Final = 3


class DirectRoutes:
    """ASGI middleware that calls the functions of `/v2/{endpoint}/{operation}/...` itself.

    Args:
        app: serves what is not found here.
        routers: whose routes of that form are called directly.
        handlers: what answers an error, by its type or nearest base; others are raised.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], handlers: Mapping[type[Exception], Handler]) -> None:
        self._app = app
        self._handlers = handlers
        self._routes: dict[tuple[str, str, int], tuple[Callable[..., Awaitable[Response]], list[str]]] = {}
        for router in routers:
            for route in router.routes:
                if isinstance(route, APIRoute):
                    self._add(route)

    def _add(self, route: APIRoute) -> None:
        form = _FORM.fullmatch(route.path)
        if form is None:
            raise ValueError(f"{route.path} has not the form /v2/{{endpoint}}/operation/{{name}}...")
        endpoint, operation, rest = form.groups()
        names = _NAME.findall(endpoint + rest)
        for method in route.methods or ():
            self._routes.setdefault((method, operation, len(names) - 1), (route.endpoint, names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        function, arguments = found
        request = Request(scope, receive, send)
        try:
            response = await function(request, **arguments)
        except Exception as error:
            handler = next((self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers), None)
            if handler is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Callable[..., Awaitable[Response]], dict[str, Any]] | None:
        parts = scope["path"].split("/")
        if len(parts) <= _OPERATION or parts[1] != "v2":
            return None
        route = self._routes.get((scope["method"], parts[_OPERATION], len(parts) - _OPERATION - 1))
        values = [parts[_OPERATION - 1], *parts[_OPERATION + 1 :]]
        if route is None or not all(values):
            return None
        function, names = route
        return function, dict(zip(names, values, strict=True))
