"""The playground at `/`, the figures at `/usage` and the reference at `/docs`: plain clients of the public API."""

import asyncio
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from flux_endpoint.api.front import base_url_of
from flux_endpoint.api.http import json_reply
from flux_endpoint.core.errors import NotFound

_INDEX: Final = "index.html"
_USAGE: Final = "usage.html"
_DOCS: Final = "docs.html"
# Swagger UI, carried along by a package, so that no page loads a script from elsewhere.
_SWAGGER_UI: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
# Nothing but files of this server runs, styles or is asked for. Pictures of this server are fetched through the origin
# of the page whatever PUBLIC_URL says, so not even img-src names another host.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
# Swagger UI writes HTML of its own making.
DOCS_SECURITY_POLICY: Final = CONTENT_SECURITY_POLICY.replace(
    "; require-trusted-types-for 'script'; trusted-types 'none'", ""
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Asked for again at each visit: after an update the page and its scripts must be of one version.
    "Cache-Control": "no-cache",
}
_MEDIA_TYPES: Final = {".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    headers: dict[str, str]


def create_router() -> APIRouter:
    """Routes of the page and its files, which are read once, here."""
    pages = {
        entry.name: _read(entry.name, entry.read_bytes())
        for entry in files(__package__).joinpath("playground").iterdir()
    }
    for name in _SWAGGER_UI:
        pages[name] = _read(name, files("fastapi_offline").joinpath("static", name).read_bytes())
    pages[_DOCS].headers["Content-Security-Policy"] = DOCS_SECURITY_POLICY
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return _reply(request, pages[_INDEX])

    @router.api_route("/usage", methods=["GET", "HEAD"])
    async def usage(request: Request) -> Response:
        return _reply(request, pages[_USAGE])

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def docs(request: Request) -> Response:
        return _reply(request, pages[_DOCS])

    @router.get("/openapi.json")
    async def document(request: Request) -> Response:
        # The servers first: what generates clients reads from the top.
        # In a thread: the first time it is made, and that takes a tenth of a second.
        described = await asyncio.to_thread(request.app.openapi)
        return json_reply({"openapi": described["openapi"], "servers": [{"url": base_url_of(request)}]} | described)

    @router.api_route("/playground/{name}", methods=["GET", "HEAD"])
    async def file(request: Request, name: str) -> Response:
        if name not in pages:
            raise NotFound(f"the playground has no file '{name[:80]}'")
        return _reply(request, pages[name])

    return router


def _read(name: str, data: bytes) -> _File:
    suffix = name[name.rindex(".") :]
    media_type = _MEDIA_TYPES.get(suffix) or mimetypes.types_map[suffix]
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return _File(data, _HEADERS | {"Content-Type": media_type + charset, "ETag": etag})


def _reply(request: Request, file: _File) -> Response:
    if file.headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=file.headers)
    return Response(file.data, headers=file.headers)
