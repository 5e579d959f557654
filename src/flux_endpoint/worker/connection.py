"""The HTTP client, hidden behind the one verb that `client.py` needs."""

import asyncio
import io
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

import aiohttp

# To a gateway that is there; and to find out that it is not.
_CONNECT_S: Final = 10.0
# Shorter than the gateway's own 30 s, so that it is rarely the one that closes first.
_KEEP_ALIVE_S: Final = 20.0

_LARGE_BYTES: Final = 2**18

QueryPairs = Sequence[tuple[str, str]]


class NoAnswer(Exception):
    """The gateway could not be reached, or broke off; whether it heard the request is unknown."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whatever its code."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """What the other side said about a refusal; may be empty."""
        try:
            return str(self.json()["error"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode("utf-8", "replace")[:200]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Attributes:
        silence_s: for the next byte of an answer, once the request is out.
        total_s: for the whole exchange; None is for ever.
    """

    silence_s: float
    total_s: float | None = None


class Connection(Protocol):
    """A way to ask one gateway."""

    async def request(
        self, method: str, path: str, query: QueryPairs, body: bytes | None, media_type: str | None, patience: Patience
    ) -> Reply:
        """Ask once.

        Args:
            method: GET or POST.
            path: of what is asked for, without the address of the gateway.
            query: names and values, in their order.
            body: what is sent; None for nothing.
            media_type: of the body; None without one.
            patience: how long to wait.

        Raises:
            NoAnswer: no complete answer came.
        """
        ...

    async def save(self, path: str, query: QueryPairs, file: Path, patience: Patience) -> Reply:
        """Ask once for a file, which is written piece by piece as it comes.

        Args:
            path: of what is asked for.
            query: likewise.
            file: is written where the answer is 200, whose body the reply then has not.
            patience: how long to wait.

        Raises:
            NoAnswer: no complete answer came; the file may hold a part.
            OSError: the file cannot be written.
        """
        ...


class HttpConnection:
    """Implements `Connection` over HTTP/1.1 with connections kept alive. An async context manager.

    Args:
        base_url: of the gateway; may end with a path.
        token: the worker token.
    """

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._session = aiohttp.ClientSession(
            # Raw, without "Bearer": as Runpod's workers send it.
            headers={"Authorization": token},
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEP_ALIVE_S,
                # Finds what the rest of this machine finds, whichever resolver happens to be installed.
                resolver=aiohttp.ThreadedResolver(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy for the internet must not get the calls to a gateway on this machine.
            trust_env=not _is_loopback(base_url),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, query: QueryPairs, body: bytes | None, media_type: str | None, patience: Patience
    ) -> Reply:
        """See `Connection.request`."""
        headers: Mapping[str, str] = {} if media_type is None else {"Content-Type": media_type}
        timeout = aiohttp.ClientTimeout(total=patience.total_s, sock_connect=_CONNECT_S, sock_read=patience.silence_s)
        try:
            async with self._session.request(
                method,
                self._base_url + path,
                params=query,
                # A large body as bytes would be written in one go, while nothing else runs.
                data=io.BytesIO(body) if body is not None and len(body) > _LARGE_BYTES else body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return Reply(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(_why(error)) from error

    async def save(self, path: str, query: QueryPairs, file: Path, patience: Patience) -> Reply:
        """See `Connection.save`."""
        timeout = aiohttp.ClientTimeout(total=patience.total_s, sock_connect=_CONNECT_S, sock_read=patience.silence_s)
        with file.open("wb") as stream:
            try:
                async with self._session.get(
                    self._base_url + path, params=query, timeout=timeout, allow_redirects=False
                ) as response:
                    if response.status != HTTPStatus.OK:
                        return Reply(response.status, await response.read())
                    async for piece in response.content.iter_chunked(_LARGE_BYTES):
                        await asyncio.to_thread(stream.write, piece)
                    return Reply(response.status, b"")
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                raise NoAnswer(_why(error)) from error


def _why(error: Exception) -> str:
    """A few words for people; what the client says of itself is long, and of TLS where there is none."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} was not found"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host} is not valid: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            # Its own text is of the call that failed.
            number = error.os_error.errno
            return os.strerror(number) if number else type(error.os_error).__name__
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "it is no http:// or https:// URL"
        case _:
            return f"{type(error).__name__}: {error}".rstrip(": ")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
