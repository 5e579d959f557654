"""`GET /v2/endpoints`: what is served here, for pages and programs that must not repeat limits and prices."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import embedded, schemas
from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.pricing import PriceUnit

_PRICE_NAMES: Final = {
    PriceUnit.MEGAPIXEL: "usdPerMegapixel",
    PriceUnit.PICTURE: "usdPerPicture",
    PriceUnit.JOB: "usdPerJob",
}
_STRING: JsonObject = {"type": "string"}
_PRICE_SCHEMA: JsonObject = {
    "type": "object",
    "description": "US dollars for 1,000,000 pixels, for one picture, or for one completed job.",
    "properties": {name: {"type": "number"} for name in _PRICE_NAMES.values()},
}
_CATALOGUE_SCHEMA: JsonObject = {
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
            "loras",
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
            "loras": {
                "type": "array",
                "items": _STRING,
                "description": "Names of the LoRAs of this server that `input.loras` may have as `path`.",
            },
            "vocabulary": _STRING
            | {
                "description": "Of the embedded model only: address of the words that it knows, "
                "`{words, nearest, torn}`; `nearest` has a known word for some that it does not know, `torn` the words "
                "for what it draws badly."
            },
            "gallery": _STRING
            | {
                "description": "Of the embedded model only: address of its best pictures, "
                "`[{picture, endpoint, input}]`; `picture` is relative to it, and `input` draws the picture again."
            },
        },
    },
}
_ANSWERS: Final[dict[int | str, JsonObject]] = {
    200: schemas.json_response("All endpoints, the most important first.", _CATALOGUE_SCHEMA)
}


async def endpoints(call: Call) -> Response:
    """Every endpoint of this server with its description, price and input. No key is asked for."""
    return json_reply([_entry(call, spec) for spec in call.services.endpoints.specs])


def _entry(call: Call, spec: EndpointSpec) -> JsonObject:
    entry: JsonObject = {
        "id": spec.endpoint_id,
        "name": spec.display_name,
        "description": spec.description,
        "price": {_PRICE_NAMES[spec.price.unit]: float(spec.price.usd)},
        "input": spec.input_schema,
        "readme": spec.readme,
        "examples": list(spec.example_prompts),
        "makesPictures": spec.makes_pictures,
        "isEmbeddedModel": spec.is_embedded,
        "loras": list(spec.loras),
    }
    if spec.is_embedded:
        entry["vocabulary"] = embedded.url_of(call, embedded.VOCABULARY)
        entry["gallery"] = embedded.url_of(call, embedded.GALLERY)
    return entry


ROUTES: Final = (
    Route(
        name="catalogue_endpoints",
        methods="GET",
        path="/v2/endpoints",
        access=Everybody(),
        handler=endpoints,
        summary="What is served here",
        tag="catalogue",
        answers=_ANSWERS,
    ),
)
