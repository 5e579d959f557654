"""The HTTP client for places that clients name: it connects to no address that it has not judged itself."""

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from flux_endpoint.core.errors import InvalidParameter, OutboundFailed, OutboundRefused, StoreUnavailable
from flux_endpoint.core.outbound import OutboundRules, literal_address, origin_of, require_url
from flux_endpoint.outbound.protocol import NO_HEADERS, Answer

# Enough for the code in a bucket's refusal; of a webhook's answer nothing is needed.
_READ_BYTES: Final = 2_048
_READ_S: Final = 1.0
_WRITE_BYTES: Final = 2**20
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# What is packed would count as small, however large it is.
_UNPACKED: Final[Mapping[str, str]] = {"Accept-Encoding": "identity"}

# As `socket.getaddrinfo` answers, and its own type of an answer.
LookUp = Callable[[str, int], Sequence[tuple[Any, ...]]]


def _look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class GuardedSender:
    """Implements `Sender`.

    Args:
        rules: which addresses may be called.
        user_agent: how the server calls itself.
        look_up: finds the addresses of a name; called in a thread of its own.
        tls: whose certificates are believed; None for those that this machine believes.
    """

    def __init__(
        self, rules: OutboundRules, user_agent: str, look_up: LookUp = _look_up, tls: ssl.SSLContext | None = None
    ) -> None:
        self._rules = rules
        self._user_agent = user_agent
        self._look_up = look_up
        self._tls = tls

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """See `Sender.send`."""
        async with self._asking(method, url, headers, body, timeout_s) as response:
            told = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, await _start_of(response), told)

    async def fetch(
        self, url: str, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> bytes:
        """See `Sender.fetch`."""
        async with _within(timeout_s), self._file_at(url, headers, timeout_s) as response:
            return await _all_of(response, limit_bytes)

    async def save(
        self, url: str, file: Path, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> str:
        """See `Sender.save`."""
        only_https = url.startswith("https:")
        async with _within(timeout_s), self._file_at(url, headers, timeout_s, only_https=only_https) as response:
            return await _saved(response, file, limit_bytes)

    @contextlib.asynccontextmanager
    async def _file_at(
        self, url: str, headers: Mapping[str, str], timeout_s: float, *, only_https: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer with a file, after a few redirects."""
        origin = origin_of(url)
        for _ in range(1 + _MAX_REDIRECTS):
            if only_https and not url.startswith("https:"):
                raise OutboundFailed("a redirect leads away from https")
            told = _UNPACKED if origin_of(url) != origin else {**headers, **_UNPACKED}
            async with self._asking("GET", url, told, None, timeout_s) as response:
                if response.status == HTTPStatus.OK:
                    yield response
                    return
                if response.status not in _REDIRECTS or "location" not in response.headers:
                    raise OutboundFailed(f"the answer is HTTP {response.status}")
                url = _next_url(url, response.headers["location"])
        raise OutboundFailed(f"there are more than {_MAX_REDIRECTS} redirects")

    @contextlib.asynccontextmanager
    async def _asking(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request and its answer, of which the block reads what it wants."""
        try:
            # `encoded`: a signed URL must go out exactly as it was signed.
            target = URL(url, encoded=True)
        except ValueError:
            raise OutboundFailed("the URL cannot be read") from None
        host, port = target.host or "", target.port or 0
        guard = _Guard(self._rules, host, port, self._look_up)
        # A name is never looked up for an address: it goes straight to the socket.
        literal = literal_address(host)
        if literal is not None and (reason := self._rules.why_refused(host, port, literal)):
            raise OutboundRefused(reason)
        # One connection for one request: the next one judges the name anew.
        connector = aiohttp.TCPConnector(
            resolver=guard,
            socket_factory=guard.open_socket,
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls or True,
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=timeout_s),
                    headers={"User-Agent": self._user_agent},
                    auto_decompress=False,
                    # A proxy would look the name up once more, and connect where it likes.
                    trust_env=False,
                ) as session,
                session.request(method, target, headers=headers, data=body, allow_redirects=False) as response,
            ):
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if guard.refusal is not None:
                raise OutboundRefused(guard.refusal) from None
            raise OutboundFailed(_why(error, host, timeout_s)) from None


class _Guard(AbstractResolver):
    """Judges the addresses of one host: all that its name has before the first is tried, and each as it is called."""

    def __init__(self, rules: OutboundRules, host: str, port: int, look_up: LookUp) -> None:
        self._rules = rules
        self._host = host
        self._port = port
        self._look_up = look_up
        self.refusal: str | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the name, if all of them may be called: a name with both kinds is not to be trusted."""
        found = await _in_thread(lambda: self._look_up(host, port))
        results: list[ResolveResult] = []
        for answered_family, _, protocol, _, (address, *_) in found:
            self._judge(address)
            results.append(
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": answered_family,
                    "proto": protocol,
                    "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                }
            )
        return results

    def open_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """The last gate: a socket for the very address that is about to be called."""
        family, kind, protocol, _, (address, *_) = addr_info
        self._judge(address)
        return socket.socket(family, kind, protocol)

    def _judge(self, address: str) -> None:
        self.refusal = self._rules.why_refused(self._host, self._port, ip_address(address))
        if self.refusal is not None:
            raise PermissionError(self.refusal)

    async def close(self) -> None:
        """Nothing is kept."""


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    # The code has come, which is all that most callers need: a receiver that dawdles over the rest is not waited for.
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_READ_S):
            return await response.content.read(_READ_BYTES)
    return b""


async def _all_of(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > limit_bytes:
            raise OutboundFailed(f"the file has more than {limit_bytes // 2**20} MiB")
    return bytes(pieces)


async def _saved(response: aiohttp.ClientResponse, file: Path, limit_bytes: int) -> str:
    """Write what comes, in a thread: a disk may be slow."""
    digest, size = hashlib.sha256(), 0
    # Without a buffer: whatever the disk has to say, it says where it is asked.
    with file.open("wb", buffering=0) as stream:

        def take(pieces: bytes) -> None:
            digest.update(pieces)
            try:
                stream.write(pieces)
            except OSError as error:
                raise StoreUnavailable(f"a file cannot be kept: {error.strerror}") from error

        waiting = bytearray()
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > limit_bytes:
                raise OutboundFailed(f"the file has more than {limit_bytes // 1_000_000} MB")
            waiting += piece
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(take, bytes(waiting))
                waiting.clear()
        take(bytes(waiting))
    return digest.hexdigest()


@contextlib.asynccontextmanager
async def _within(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise OutboundFailed(f"no answer within {timeout_s:g} s") from None


def _next_url(url: str, location: str) -> str:
    try:
        return require_url("location", urljoin(url, location))
    except (InvalidParameter, ValueError):
        raise OutboundFailed("a redirect leads to no http or https URL") from None


async def _in_thread(work: Callable[[], Sequence[tuple[Any, ...]]]) -> Sequence[tuple[Any, ...]]:
    """Run a look-up in a thread of its own, which nobody waits for once the caller's time is up.

    A pool would not do: slow name servers would fill it, and the process waits for its threads at the end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[tuple[Any, ...]]] = loop.create_future()

    def settle(found: Sequence[tuple[Any, ...]] | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(found or ())
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            found, problem = work(), None
        except Exception as error:
            found, problem = None, error
        # The loop is closed when the process ends meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return await future


def _why(error: Exception, host: str, timeout_s: float) -> str:
    """A sentence without the URL, whose path and query may be secret."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {host} was not found"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {host} is not valid"
        case aiohttp.ClientConnectorError():
            # Its own text is of the call that failed.
            number = error.os_error.errno
            return f"{host} cannot be reached: {os.strerror(number) if number else type(error.os_error).__name__}"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before the answer"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case _:
            return f"the exchange broke off ({type(error).__name__})"
