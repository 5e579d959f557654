"""`GET /v2/endpoints`: what is served here, for pages and programs that must not repeat limits and prices."""

from typing import Any

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import readmes, schemas
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.services import services_of
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec, FluxEndpoint, JobPricedEndpoint

router = APIRouter(tags=["catalogue"])

_STRING: schemas.JsonObject = {"type": "string"}
_PRICE_SCHEMA: schemas.JsonObject = {
    "type": "object",
    "description": "US dollars for 1,000,000 pixels, or for one completed job.",
    "properties": {"usdPerMegapixel": {"type": "number"}, "usdPerJob": {"type": "number"}},
}
_CATALOGUE_SCHEMA: schemas.JsonObject = {
    "type": "array",
    "items": {
        "type": "object",
        "required": [
            "id",
            "name",
            "description",
            "price",
            "input",
            "readme",
            "examples",
            "makesPictures",
            "isEmbeddedModel",
        ],
        "properties": {
            "id": _STRING | {"description": "Stands in the URL: `/v2/{id}/run`.", "examples": [FLUX_DEV.endpoint_id]},
            "name": _STRING,
            "description": _STRING | {"description": "One sentence."},
            "price": _PRICE_SCHEMA,
            "input": {"type": "object", "description": "JSON schema of `input`: fields, ranges, defaults."},
            "readme": _STRING | {"description": "Markdown: paragraphs and lists. May be empty."},
            "examples": {"type": "array", "items": _STRING, "description": "Prompts to begin with."},
            "makesPictures": {"type": "boolean", "description": "A FLUX endpoint: prompt in, `image_url` out."},
            "isEmbeddedModel": {"type": "boolean", "description": "Served by the small model of this package."},
        },
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: schemas.json_response("All endpoints, the most important first.", _CATALOGUE_SCHEMA)
}


@router.get("/v2/endpoints", responses=_RESPONSES, summary="What is served here")
async def endpoints(request: Request) -> Response:
    """Every endpoint of this server with its description, price and input. No key is asked for."""
    services = services_of(request)
    return json_reply(
        [_entry(spec, spec.endpoint_id in services.embedded_endpoint_ids) for spec in services.endpoints.specs]
    )


def _entry(spec: EndpointSpec, is_embedded: bool) -> schemas.JsonObject:
    entry: schemas.JsonObject = {"id": spec.endpoint_id, "name": spec.display_name}
    if isinstance(spec, FluxEndpoint):
        model = spec.model
        return entry | {
            "description": model.description,
            "price": {"usdPerMegapixel": float(model.usd_per_megapixel)},
            "input": schemas.input_schema(model),
            "readme": readmes.readme(model, is_embedded=is_embedded),
            "examples": list(readmes.EMBEDDED_EXAMPLES if is_embedded else readmes.EXAMPLES),
            "makesPictures": True,
            "isEmbeddedModel": is_embedded,
        }
    assert isinstance(spec, JobPricedEndpoint)
    return entry | {
        "description": spec.description,
        "price": {"usdPerJob": float(spec.usd_per_job)},
        "input": dict(spec.input_schema or {"type": "object"}),
        "readme": "",
        "examples": [],
        "makesPictures": False,
        "isEmbeddedModel": False,
    }
