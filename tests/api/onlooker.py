"""A client that reads a stream while it comes, and may leave in the middle."""

import asyncio
import json
from typing import Any

from tests.api.conftest import API_KEY, PUBLIC_URL, Gateway

HOST = PUBLIC_URL.removeprefix("http://")


class Onlooker:
    """Reads one answer as it comes, by hand: httpx would wait for its end. With a body it posts."""

    def __init__(self, gateway: Gateway, path: str, body: object = None, **headers: str) -> None:
        self._body = None if body is None else json.dumps(body).encode()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._has_left = asyncio.Event()
        app = gateway.client._transport.app
        names = {"authorization": API_KEY, "host": HOST} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET" if body is None else "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in names.items()],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._sent.put))

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            data, self._body = self._body, None
            return {"type": "http.request", "body": data, "more_body": False}
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self._has_left.set()

    async def piece(self) -> str:
        """The next piece of the body; empty at the end."""
        async with asyncio.timeout(20):
            while (message := await self._sent.get())["type"] != "http.response.body":
                pass
        return message["body"].decode()

    async def block(self, *, comments: bool = False) -> str:
        """The next block that is no comment, or, with `comments`, that is one."""
        while (piece := await self.piece()) and piece.startswith(":") is not comments:
            pass
        return piece

    async def status(self) -> dict[str, Any]:
        """The next message, taken apart."""
        block = await self.block()
        assert block.endswith("\n\n"), block
        lines = dict(line.split(": ", 1) for line in block.rstrip().split("\n"))
        assert lines.keys() == {"id", "event", "data"}
        assert lines["event"] == "status"
        return json.loads(lines["data"])
