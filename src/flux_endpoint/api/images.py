"""Finished pictures over HTTP. No key is asked for: whoever knows the unguessable name may look."""

from email.utils import formatdate

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from flux_endpoint.api import schemas
from flux_endpoint.api.services import Services
from flux_endpoint.core.generation import ImageFormat

_MEDIA_TYPES = {image_format.extension: image_format.media_type for image_format in ImageFormat}


def image_routes(services: Services) -> APIRouter:
    """`GET` and `HEAD /images/{key}`."""
    router = APIRouter(prefix="/images", tags=["images"])
    gallery = services.gallery

    async def headers_of(key: str) -> dict[str, str]:
        image, left_ms = await gallery.stat(key)
        return {
            "Content-Type": _MEDIA_TYPES[key.rpartition(".")[2]],
            "Content-Length": str(image.size_bytes),
            "ETag": f'"{image.etag.strip(chr(34))}"',
            "Last-Modified": formatdate(image.saved_ms / 1_000, usegmt=True),
            # The bytes under a key never change; a cache may keep them for as long as the picture lives.
            "Cache-Control": f"public, max-age={max(1, left_ms // 1_000)}, immutable",
            "X-Content-Type-Options": "nosniff",
        }

    @router.api_route(
        "/{key}",
        methods=["GET"],
        summary="Fetch a picture",
        response_class=Response,
        responses={
            200: {
                "description": "The picture.",
                "content": {media_type: {"schema": {"type": "string"}} for media_type in _MEDIA_TYPES.values()},
            },
            304: {"description": "Unchanged since the ETag the client named."},
            404: schemas.json_response("Never here, or expired.", schemas.ERROR_SCHEMA),
        },
    )
    async def image(request: Request, key: str) -> Response:
        """The bytes of a picture; its URL dies after the retention time."""
        headers = await headers_of(key)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
        return StreamingResponse(gallery.read(key), headers=headers)

    @router.head("/{key}", include_in_schema=False)
    async def image_head(key: str) -> Response:
        return Response(headers=await headers_of(key))

    return router
