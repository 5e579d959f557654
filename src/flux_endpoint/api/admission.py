"""The one way in: every route of a client calls `admit` before it does anything else."""

from collections.abc import Callable
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from flux_endpoint.api.http import secret_of
from flux_endpoint.api.services import services_of
from flux_endpoint.core.account import ApiKey, Operation

# Where a request keeps what must be called when it is over.
_LEAVING: Final = "flux_endpoint.leaving"


async def admit(request: Request, endpoint_id: str | None, operation: Operation, *, may_repeat: bool = False) -> ApiKey:
    """Check the key of a request, that the endpoint exists, what the key opens, and the rate limits.

    `endpoint_id` is None for what belongs to no endpoint; `may_repeat` leaves the job it asks for to be counted by
    `Accounts.ask_for_job`. The request counts as open until its answer is sent, a
    streamed one included, or its client has left.

    Raises:
        Unauthenticated: the key is missing, unknown or revoked.
        Forbidden: the key does not open this operation or endpoint.
        UnknownEndpoint: no such endpoint is served here.
        TooManyRequests: a rate limit is reached.
    """
    services = services_of(request)
    key = await services.accounts.authenticate(secret_of(request))
    if endpoint_id is not None:
        services.endpoints.spec(endpoint_id)
    request.scope[_LEAVING].append(services.accounts.enter(key, endpoint_id, operation, may_repeat=may_repeat))
    return key


class Doors:
    """ASGI middleware that notices the end of each request, however it ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        leaving: list[Callable[[], None]] = []
        scope[_LEAVING] = leaving
        try:
            await self._app(scope, receive, send)
        finally:
            for leave in leaving:
                leave()
