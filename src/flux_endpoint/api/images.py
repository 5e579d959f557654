"""Finished pictures over HTTP. No key is asked for: whoever knows the unguessable name may look."""

from email.utils import formatdate
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from flux_endpoint.api import schemas
from flux_endpoint.api.services import services_of
from flux_endpoint.core.image_formats import IMAGE_FORMATS

router = APIRouter(prefix="/images", tags=["images"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {row.media_type: {"schema": {"type": "string"}} for row in IMAGE_FORMATS.values()},
    },
    304: {"description": "Unchanged since the ETag the client named."},
    404: schemas.json_response("Never here, or expired.", schemas.ERROR_SCHEMA),
}


@router.get("/{key}", summary="Fetch a picture", response_class=Response, responses=_RESPONSES)
async def image(request: Request, key: str) -> Response:
    """The bytes of a picture. No key is asked for; the URL dies after the retention time."""
    headers = await _headers_of(request, key)
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
    return StreamingResponse(services_of(request).images.read(key), headers=headers)


@router.head("/{key}", include_in_schema=False)
async def image_head(request: Request, key: str) -> Response:
    """The headers of a picture."""
    return Response(headers=await _headers_of(request, key))


async def _headers_of(request: Request, key: str) -> dict[str, str]:
    image, left_ms = await services_of(request).images.stat(key)
    return {
        "Content-Type": image.image_format.media_type,
        "Content-Length": str(image.size_bytes),
        "ETag": f'"{image.etag.strip(chr(34))}"',
        "Last-Modified": formatdate(image.saved_ms / 1_000, usegmt=True),
        # The bytes under a key never change; a cache may keep them for as long as the picture lives.
        "Cache-Control": f"public, max-age={max(1, left_ms // 1_000)}, immutable",
        "X-Content-Type-Options": "nosniff",
    }
