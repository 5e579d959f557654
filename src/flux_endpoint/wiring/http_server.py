"""uvicorn, started and stopped by us: the workers must be gone before the gateway is."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from flux_endpoint.api.dialects.runpod.operations import WORKER_OPERATIONS
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings.http import HttpSettings
from flux_endpoint.wiring.connections import Connections, limits_of_this_process

# Of the 5 s in which everything must be gone; the workers and the database have up to 2.5.
_SHUTDOWN_S: Final = 1


@dataclass(frozen=True, slots=True)
class Listener:
    """Where requests come in.

    Attributes:
        socket: bound to its address.
        cert: for TLS, the certificate; None for plain HTTP.
        key: its private key; None when that is in the same file.
    """

    socket: socket.socket
    cert: Path | None = None
    key: Path | None = None


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
def listen(host: str, port: int, option: str = "--port") -> Iterator[socket.socket]:
    """Take the port before anything else, so that a taken one is the first thing to be told.

    Raises:
        SettingsError: there is no such address, or the port is taken; the text names the option for another one.
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
                problem = f"it is in use; stop the other program or choose another port with {option}"
            else:
                problem = error.strerror or str(error)
            raise SettingsError(f"cannot listen on {host} port {port}: {problem}") from None
        yield listener


@contextlib.contextmanager
def listen_all(settings: HttpSettings) -> Iterator[list[Listener]]:
    """Take the port, and the one for TLS if there is a certificate.

    Raises:
        SettingsError: see `listen`; or the certificate and its key cannot be used.
    """
    cert, key = settings.tls_cert, settings.tls_key
    with contextlib.ExitStack() as stack:
        listeners = [Listener(stack.enter_context(listen(settings.host, settings.port)))]
        if cert is not None:
            _check_certificate(cert, key)
            tls = stack.enter_context(listen(settings.host, settings.tls_port, "--tls-port"))
            listeners.append(Listener(tls, cert, key))
        yield listeners


def _check_certificate(cert: Path, key: Path | None) -> None:
    try:
        # Without a password, OpenSSL would ask for one at the terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
    except OSError as error:
        names = str(cert) if key is None else f"{cert} and {key}"
        raise SettingsError(f"TLS_CERT and TLS_KEY cannot be used: {names}: {error.strerror or error}") from None


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listeners: Sequence[Listener], keep_alive_s: int
) -> AsyncIterator[tuple["set[asyncio.Task[None]]", Connections]]:
    """Serve an application for as long as the block lasts; it begins once requests are taken.

    Gives one task for each listener, of which one that ends has failed, and all connections.

    Args:
        app: what is served.
        listeners: where requests come in.
        keep_alive_s: for how long a connection without a request stays open.
    """
    connections = Connections(limits_of_this_process(), WORKER_OPERATIONS)
    servers = [_Server(_config(app, connections, one, keep_alive_s)) for one in listeners]
    tasks = {
        asyncio.create_task(server.serve(sockets=[one.socket])) for server, one in zip(servers, listeners, strict=True)
    }
    sweep = asyncio.create_task(connections.run())
    ready = asyncio.create_task(_until_ready(servers))
    await asyncio.wait({*tasks, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield tasks, connections
    finally:
        ready.cancel()
        sweep.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


async def _until_ready(servers: Sequence[_Server]) -> None:
    for server in servers:
        await server.is_ready.wait()


def _config(app: ASGIApp, connections: Connections, listener: Listener, keep_alive_s: int) -> uvicorn.Config:
    return uvicorn.Config(
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
        ssl_certfile=listener.cert,
        ssl_keyfile=listener.key,
    )
