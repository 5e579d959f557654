"""The playground at `/`, the figures at `/usage` and the reference at `/docs`: plain clients of the public API."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.responses import Response

from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, Handler, Route
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
PAGE_HEADERS: Final = {
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


async def index(call: Call) -> Response:
    """The playground."""
    return _reply(call, _INDEX)


async def usage(call: Call) -> Response:
    """The figures."""
    return _reply(call, _USAGE)


async def docs(call: Call) -> Response:
    """The reference."""
    return _reply(call, _DOCS)


async def document(call: Call) -> Response:
    """The OpenAPI document."""
    described = await call.document()
    # The servers first: what generates clients reads from the top.
    return json_reply({"openapi": described["openapi"], "servers": [{"url": call.origin}]} | described)


async def file(call: Call, name: str) -> Response:
    """A script, style or picture of a page."""
    return _reply(call, name)


@cache
def read_files() -> Mapping[str, _File]:
    """The pages and what belongs to them, by name; read once, at the start."""
    found = {
        entry.name: _read(entry.name, entry.read_bytes())
        for entry in files(__package__).joinpath("playground").iterdir()
    }
    # Read from where it is installed: to import the package would load a framework that nobody needs.
    swagger_ui = distribution("flask-swagger-ui")
    for name in _SWAGGER_UI:
        found[name] = _read(name, Path(str(swagger_ui.locate_file(f"flask_swagger_ui/dist/{name}"))).read_bytes())
    found[_DOCS].headers["Content-Security-Policy"] = DOCS_SECURITY_POLICY
    return found


def _read(name: str, data: bytes) -> _File:
    suffix = name[name.rindex(".") :]
    media_type = _MEDIA_TYPES.get(suffix) or mimetypes.types_map[suffix]
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return _File(data, PAGE_HEADERS | {"Content-Type": media_type + charset, "ETag": etag})


def _reply(call: Call, name: str) -> Response:
    file = read_files().get(name)
    if file is None:
        raise NotFound(f"the playground has no file '{name[:80]}'")
    if file.headers["ETag"] in call.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=file.headers)
    return Response(file.data, headers=file.headers)


def _route(path: str, handler: Handler, methods: str = "GET HEAD") -> Route:
    return Route(
        name=f"pages_{handler.__name__}",
        methods=methods,
        path=path,
        access=Everybody(),
        handler=handler,
        is_described=False,
    )


ROUTES: Final = (
    _route("/", index),
    _route("/usage", usage),
    _route("/docs", docs),
    _route("/openapi.json", document, "GET"),
    _route("/playground/{name}", file),
)
