"""What one connection may do to the gateway: the limits that uvicorn leaves to others.

uvicorn reads a request head of any length, waits for the rest of a request for ever, and takes connections until the
process has no files left. Here each of these has a limit, and a part of the connections is kept for workers, without
whom nothing else would get done either.
"""

import asyncio
import json
import resource
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from flux_endpoint.api.drain import drain

# Of the files that a process may open, this share is for everything but connections: database, pictures, webhooks.
_OTHER_FILES_SHARE: Final = 4
_MIN_OTHER_FILES: Final = 64
_MIN_CONNECTIONS: Final = 16
_MAX_CONNECTIONS: Final = 10_000
_WORKERS_SHARE: Final = 4
_SWEEP_PERIOD_S: Final = 1.0
_NEVER: Final = float("inf")
# In a URL split at its slashes: nothing, "v2", the endpoint, the operation.
_OPERATION: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed.

    Attributes:
        connections: open at once; beyond, whoever has kept the server waiting longest is closed.
        kept_for_workers: how many of them answer the worker protocol only.
        url_bytes: of a request's path and query.
        head_bytes: of a request line with all its headers.
        message_bytes: of a request as it comes over the wire, its chunks' own bytes included.
        head_s: from the first byte of a request, or from the opening of a connection, to the end of its head.
        body_s: from there to the end of its body.
        unread_s: how long a client may leave an answer unread.
        rest_s: for how long the rest of a request whose head was refused is read and thrown away, up to
            `message_bytes`: who is reset while sending never sees the answer.
    """

    connections: int
    kept_for_workers: int
    url_bytes: int = 16 * 2**10
    head_bytes: int = 64 * 2**10
    message_bytes: int = 128 * 2**20
    head_s: float = 10
    body_s: float = 300
    unread_s: float = 60
    rest_s: float = 10


def limits_of_this_process() -> Limits:
    """As many connections as the files that this process may open leave room for; it asks for all that it may get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS * _OTHER_FILES_SHARE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    connections = max(
        _MIN_CONNECTIONS, min(wanted - max(wanted // _OTHER_FILES_SHARE, _MIN_OTHER_FILES), _MAX_CONNECTIONS)
    )
    return Limits(connections, connections // _WORKERS_SHARE)


class Connections:
    """All connections of a gateway.

    Args:
        limits: of each, and of all together.
        worker_operations: the third part of the paths that workers ask for.
    """

    def __init__(self, limits: Limits, worker_operations: Collection[str]) -> None:
        self.limits = limits
        self._worker_operations = frozenset(operation.encode() for operation in worker_operations)
        self.open: set[Connection] = set()
        # Those whose client is to say something, the one that has been awaited longest first.
        self.awaited: dict[Connection, None] = {}

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "Connection":
        """One more connection, as uvicorn asks for it."""
        return Connection(self, config, server_state, app_state)

    def enter(self, connection: "Connection") -> None:
        """Note a new connection; when there are too many, close the one that has been silent longest."""
        self.open.add(connection)
        self.awaited[connection] = None
        if len(self.open) > self.limits.connections:
            # The new one itself, when all others are being served.
            next(iter(self.awaited)).give_up()

    def leave(self, connection: "Connection") -> None:
        """Forget a connection. A second call does nothing."""
        self.open.discard(connection)
        self.awaited.pop(connection, None)

    def wait_for(self, connection: "Connection") -> None:
        """From now on it is for the client to say something."""
        self.awaited.pop(connection, None)
        if connection in self.open:
            self.awaited[connection] = None

    def has_room_for(self, url: bytes) -> bool:
        """Whether a request may be served: some places are for those of workers. Who is silent takes none."""
        if len(self.open) - len(self.awaited) < self.limits.connections - self.limits.kept_for_workers:
            return True
        return self._is_of_worker(url)

    @property
    def clients(self) -> int:
        """How many connections wait for an answer, those of workers not counted."""
        return sum(not self._is_of_worker(one.url) for one in self.open if one not in self.awaited)

    def _is_of_worker(self, url: bytes) -> bool:
        parts = url.split(b"/", _OPERATION + 1)
        return len(parts) > _OPERATION and parts[_OPERATION] in self._worker_operations

    async def run(self) -> None:
        """Close, for ever, what has taken too long."""
        while True:
            await asyncio.sleep(_SWEEP_PERIOD_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now_s: float) -> None:
        """Close what should have been done by `now_s`, on the clock of the event loop."""
        for connection in [connection for connection in self.open if connection.due_s < now_s]:
            connection.give_up()


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's with limits.

    Attributes:
        due_s: when it is given up unless something happens before, on the clock of the event loop.
    """

    def __init__(self, all_: Connections, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._all = all_
        self._served = self.app
        self.url = b""
        # Of the request that is being read.
        self._message_bytes = 0
        self._is_head_complete = False
        # It was answered before it was read: what still comes is thrown away.
        self._is_refused = False
        self.due_s = _NEVER

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self.due_s = self.loop.time() + self._all.limits.head_s
        self._all.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place to another."""
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, unless they are more than a request may have."""
        self._message_bytes += len(data)
        if not self._is_refused:
            super().data_received(data)
            if not self._is_head_complete and self._message_bytes > self._all.limits.head_bytes:
                self._refuse_head()
        if self._message_bytes > self._all.limits.message_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._is_head_complete = False
        self.due_s = self.loop.time() + self._all.limits.head_s
        self._all.wait_for(self)

    def on_headers_complete(self) -> None:
        """The whole head of a request is here."""
        self._is_head_complete = True
        limits = self._all.limits
        # The body may be part of what was read, so only a long request has its head measured.
        if self._message_bytes > limits.url_bytes and self._has_long_head(limits):
            self._refuse_head()
            return
        self.due_s = self.loop.time() + limits.body_s
        self.app = self._served if self._all.has_room_for(self.url) else _no_room
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole of a request is here: it is for the server to say something."""
        if not self._is_refused:
            self._message_bytes = 0
            self.due_s = _NEVER
            if not self.cycle.response_complete:
                self._all.awaited.pop(self, None)
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The whole of an answer is on its way."""
        super().on_response_complete()
        self._all.wait_for(self)

    def pause_writing(self) -> None:
        """The client does not read what it asked for."""
        super().pause_writing()
        self.due_s = self.loop.time() + self._all.limits.unread_s

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self.due_s = _NEVER

    def give_up(self) -> None:
        """Close the connection, with a word to a client that has said the half of something."""
        self._all.leave(self)
        if self.flow.write_paused:
            self.transport.abort()
        elif not self._is_refused and self._message_bytes and not (self.cycle and self.cycle.response_started):
            self._refuse(408, "the rest of the request did not come in time")
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _has_long_head(self, limits: Limits) -> bool:
        length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return length > limits.head_bytes or len(self.url) > limits.url_bytes

    def _refuse_head(self) -> None:
        limits = self._all.limits
        if len(self.url) > limits.url_bytes:
            self._refuse(414, f"the URL has more than {limits.url_bytes // 2**10} KiB")
        else:
            self._refuse(431, f"the headers have more than {limits.head_bytes // 2**10} KiB")
        self.due_s = self.loop.time() + limits.rest_s

    def _refuse(self, status: int, text: str) -> None:
        """Answer without the application, once all that was asked before is answered; nothing more is read."""
        self._is_refused = True
        body = json.dumps({"error": text}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.write_eof()


async def _no_room(scope: Scope, receive: Receive, send: Send) -> None:
    await drain(scope, receive)
    body = b'{"error":"the server has too many open connections; try again in a second"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
