"""Lets a client finish what it sends before it is told that nobody wanted it.

Most clients read no answer while they send. Refused in the middle, with the connection closed at once, they see a
connection that was reset, and never why: so it is with urllib, and with nginx, whose client then gets a 502.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Twice what the largest body may have; who sends more is cut off.
_MAX_BYTES: Final = 64 * 2**20
_MAX_S: Final = 10.0


class Drain:
    """ASGI middleware that reads the rest of a body, within bounds, before an answer that came early."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(receive)

        async def send_when_read(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.is_over:
                headers = Headers(scope=scope)
                # Who waits to be told to go on has sent nothing, and will not.
                if (not body.is_begun and "expect" in headers) or not await body.drain(headers):
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, body.receive, send_when_read)


class _Body:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_begun = False
        self.is_over = False

    async def receive(self) -> Message:
        self.is_begun = True
        message = await self._receive()
        self.is_over = not message.get("more_body", False)
        return message

    async def drain(self, headers: Headers) -> bool:
        """Whether there is nothing more to read."""
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > _MAX_BYTES:
            return False
        left = _MAX_BYTES
        try:
            async with asyncio.timeout(_MAX_S):
                while not self.is_over and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return False
        return self.is_over


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
