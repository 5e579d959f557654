"""uvicorn, started and stopped by us: the workers must be gone before the gateway is."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from flux_endpoint.api.dialects.runpod.operations import WORKER_OPERATIONS
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.wiring.connections import Connections, limits_of_this_process

# Of the 5 s in which everything must be gone; the workers and the database have up to 2.5.
_SHUTDOWN_S: Final = 1


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything else, so that a taken one is the first thing to be told.

    Raises:
        SettingsError: there is no such address, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"HOST {host} is no address of this machine: {error.strerror}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                problem = "it is in use; stop the other program or choose another port with --port"
            else:
                problem = error.strerror or str(error)
            raise SettingsError(f"cannot listen on {host} port {port}: {problem}") from None
        yield listener


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, keep_alive_s: int) -> AsyncIterator["asyncio.Task[None]"]:
    """Serve an application for as long as the block lasts; it begins once requests are taken.

    Args:
        app: what is served.
        listener: bound to its address.
        keep_alive_s: for how long a connection without a request stays open.
    """
    connections = Connections(limits_of_this_process(), WORKER_OPERATIONS)
    config = uvicorn.Config(
        app,
        # It makes a protocol when called, like the classes that uvicorn brings along.
        http=connections.protocol,  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # What a proxy says of its clients is read where links are made, and is believed of few.
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.create_task(server.is_ready.wait())
    sweep = asyncio.create_task(connections.run())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield task
    finally:
        ready.cancel()
        sweep.cancel()
        server.should_exit = True
        await task
