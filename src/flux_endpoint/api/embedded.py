"""What clients may read about the model in the package: the words that it knows, and its gallery."""

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from starlette.responses import Response

from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.core.errors import NotFound

VOCABULARY: Final = "vocabulary.json"
GALLERY: Final = "gallery.json"
_PATH: Final = "/embedded"


def url_of(call: Call, name: str) -> str:
    """The address of one of the files."""
    return f"{call.origin}{_PATH}/{name}"


async def file(call: Call, name: str) -> Response:
    """A file about the embedded model."""
    found = _read_files().get(name)
    if found is None:
        raise NotFound(f"there is no file '{name[:80]}' about the embedded model")
    data, headers = found
    if headers["ETag"] in call.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers)


@cache
def _read_files() -> Mapping[str, tuple[bytes, dict[str, str]]]:
    """Bytes and headers by name; read when the first is asked for."""
    model = files("flux_endpoint").joinpath("models", "demo")
    entries = [model.joinpath(VOCABULARY), *model.joinpath("gallery").iterdir()]
    return {entry.name: _with_headers(entry.name, entry.read_bytes()) for entry in entries}


def _with_headers(name: str, data: bytes) -> tuple[bytes, dict[str, str]]:
    return data, {
        "Content-Type": str(mimetypes.guess_type(name, strict=False)[0]),
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        # They change with the package only.
        "Cache-Control": "public, max-age=3600",
        "X-Content-Type-Options": "nosniff",
    }


ROUTES: Final = (
    Route(
        name="embedded_file",
        methods="GET HEAD",
        path=f"{_PATH}/{{name}}",
        access=Everybody(),
        handler=file,
        is_described=False,
    ),
)
