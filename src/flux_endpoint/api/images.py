"""Finished pictures over HTTP. No key is asked for: whoever knows the unguessable name may look."""

from email.utils import formatdate
from typing import Final

from starlette.responses import Response, StreamingResponse

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.image_formats import IMAGE_FORMATS

_KEY_HEADERS: Final = ("authorization", "x-key", "cookie")
_ANSWERS: Final[dict[int | str, JsonObject]] = {
    200: {
        "description": "The picture.",
        "content": {row.media_type: {"schema": {"type": "string"}} for row in IMAGE_FORMATS.values()},
    },
    307: {"description": "At the bucket, with `IMAGE_LINKS=presigned`; not for requests with a key."},
    304: {"description": "Unchanged since the ETag the client named."},
    404: schemas.json_response("Never here, or expired.", schemas.ERROR_SCHEMA),
}


async def image(call: Call, key: str) -> Response:
    """The bytes of a picture. No key is asked for; the URL dies after the retention time."""
    if call.services.images.signs and _may_be_sent_on(call):
        # Signed anew each time: this link lives longer than a signature.
        signed = {"Location": await call.services.images.sign(key), "Cache-Control": "private, no-store"}
        return Response(status_code=307, headers=signed)
    headers = await _headers_of(call, key)
    if call.method == "HEAD":
        return Response(headers=headers)
    if headers["ETag"] in call.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
    return StreamingResponse(call.services.images.read(key), headers=headers)


def _may_be_sent_on(call: Call) -> bool:
    """Whether a client may be redirected to the bucket.

    Not one that sends a key, which it might send there too, and which the bucket would refuse beside a signature; and
    no page of this server, which may not load anything from elsewhere.
    """
    has_key = any(name in call.headers for name in _KEY_HEADERS)
    return call.method == "GET" and not has_key and call.headers.get("sec-fetch-site") != "same-origin"


async def _headers_of(call: Call, key: str) -> dict[str, str]:
    image, left_ms = await call.services.images.stat(key)
    return {
        "Content-Type": image.image_format.media_type,
        "Content-Length": str(image.size_bytes),
        "ETag": f'"{image.etag.strip(chr(34))}"',
        "Last-Modified": formatdate(image.saved_ms / 1_000, usegmt=True),
        # The bytes under a key never change; a cache may keep them for as long as the picture lives.
        "Cache-Control": f"public, max-age={max(1, left_ms // 1_000)}, immutable",
        "X-Content-Type-Options": "nosniff",
    }


ROUTES: Final = (
    Route(
        name="images_image",
        methods="GET HEAD",
        path="/images/{key}",
        access=Everybody(),
        handler=image,
        summary="Fetch a picture",
        tag="images",
        answers=_ANSWERS,
    ),
)
