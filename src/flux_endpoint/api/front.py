"""How this server is reached: what links in its answers start with, and paths as proxies and clients spell them."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.front import Front

_FORWARDED: Final = (b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix")
_NAMES: Final = frozenset((b"host", *_FORWARDED))
_SLASHES: Final = re.compile("/{2,}")
# nginx sends the name of its upstream, which may have underscores.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){0,10}/?")
# In a path split at its slashes: nothing, "v2", the endpoint, the operation.
_OPERATION: Final = 3
_SEEN: Final = 1_024
# Headers of the Model Context Protocol, which runs in pages, too.
_OF_AGENTS: Final = ("Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name")


class RequestFront:
    """Finds out how a request came, and tidies its path.

    Repeated and trailing slashes count as one and none, because clients put URLs together from parts that have them;
    the prefix of PUBLIC_URL is taken away where the proxy has left it.

    Args:
        front: what is known beforehand.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._prefix = urlsplit(front.public_url or "").path
        # By what is read of a request; there are few proxies and names.
        self._base_url = lru_cache(_SEEN)(self._make_base_url)

    def read(self, scope: Scope) -> str:
        """Tidy the path of a request.

        Returns:
            What links in its answer start with: scheme, host, port and prefix, without a slash at the end.

        Raises:
            InvalidRequest: its headers do not say how it came.
        """
        path = scope["path"]
        if self._prefix and path.startswith(self._prefix + "/"):
            path = scope["path"] = path.removeprefix(self._prefix)
        if "//" in path or path.endswith("/"):
            scope["path"] = _SLASHES.sub("/", path).rstrip("/") or "/"
        named = tuple(header for header in scope["headers"] if header[0] in _NAMES)
        return self._base_url(scope.get("scheme", "http"), (scope.get("client") or ("",))[0], named)

    def _make_base_url(self, scheme: str, client: str, headers: tuple[tuple[bytes, bytes], ...]) -> str:
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) > 1:
            raise InvalidRequest("Invalid request: there is more than one header Host")
        host = _matching(_HOST, "Host", hosts[0]) if hosts and hosts[0] else None
        if self._front.public_url is not None:
            return self._front.public_url
        prefix = ""
        if len(headers) > len(hosts) and self._is_trusted(client):
            # A chain of proxies writes a list; the first is the one that the client asked.
            said = {name: value.split(b",")[0].strip() for name, value in headers if name in _FORWARDED}
            scheme = said.get(b"x-forwarded-proto", b"").decode("latin-1").lower() or scheme
            if scheme not in ("http", "https"):
                raise InvalidRequest("Invalid request: the header X-Forwarded-Proto must be http or https")
            if said.get(b"x-forwarded-host"):
                host = _matching(_HOST, "X-Forwarded-Host", said[b"x-forwarded-host"])
            prefix = _matching(_PREFIX, "X-Forwarded-Prefix", said.get(b"x-forwarded-prefix", b"")).rstrip("/")
        return (self._front.local_url if host is None else f"{scheme}://{host}") + prefix

    def _is_trusted(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._front.trusted_proxies)


class CrossOrigin(CORSMiddleware):
    """ASGI middleware that lets pages of other origins call what is for clients, and nothing of what is for workers.

    Args:
        app: gets the request.
        origins: of the pages.
        for_workers: the third parts of paths that are for workers.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], for_workers: Collection[str]) -> None:
        self._for_workers = for_workers
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Encoding",
                "Content-Type",
                "Idempotency-Key",
                "Prefer",
                "X-Request-ID",
                *_OF_AGENTS,
            ],
            expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy", "X-Job-Id", "X-Batch-Id", "X-Warning"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            parts = _SLASHES.sub("/", scope["path"]).split("/")
            if len(parts) > _OPERATION and parts[_OPERATION] in self._for_workers:
                await self.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def _matching(form: re.Pattern[str], name: str, value: bytes) -> str:
    text = value.decode("latin-1")
    if not form.fullmatch(text):
        raise InvalidRequest(f"Invalid request: the header {name} is malformed")
    return text
