"""The operations of this dialect."""

from typing import Any, Final

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.inputs import PICTURES_LIMIT_BYTES, inputs_schema, prompt_schema
from flux_endpoint.api.dialects.openai import images, models
from flux_endpoint.api.dialects.openai.forms import EDIT_LIMIT_BYTES
from flux_endpoint.api.dialects.openai.requests import (
    DEFAULT_FORMAT,
    PARTIAL_IMAGES,
    PICTURES,
    RESPONSE_FORMATS,
)
from flux_endpoint.api.dialects.openai.words import ERROR_SCHEMA, error_body
from flux_endpoint.api.operations import Body, Handler, Route
from flux_endpoint.api.schemas import JsonObject, json_response
from flux_endpoint.core.account import Operation
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from flux_endpoint.core.inputs import or_null

# 256 to 1536.
_SIDE: Final = "(25[6-9]|2[6-9][0-9]|[3-9][0-9]{2}|1[0-4][0-9]{2}|15[0-2][0-9]|153[0-6])"
_COUNT: Final = {"type": "integer"}
_OWN_FIELDS: Final[dict[str, JsonObject]] = {
    "model": {"type": "string", "description": "As in /v1/models; absent for the first of them."},
    "n": PICTURES.schema("Pictures; their seeds follow one another."),
    "size": {
        "type": "string",
        "default": "auto",
        "pattern": f"^(auto|{_SIDE}[x*]{_SIDE})$",
        "description": "Width and height in pixels, 256 to 1536 each: 1024x768; or auto.",
    },
    "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "description": "Absent for bytes and link."},
    "output_format": {"type": "string", "enum": list(IMAGE_FORMATS), "default": DEFAULT_FORMAT.name},
    "stream": {"type": "boolean", "default": False},
    "partial_images": PARTIAL_IMAGES.schema("Previews of a streamed picture."),
}


_BODY: Final[JsonObject] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {"prompt": prompt_schema()}
    | inputs_schema(but_for=["image_format"])
    | {name: or_null(one) for name, one in _OWN_FIELDS.items()},
}


_FILE: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
# As clients make it. Fields are all text; those of FLUX are taken too.
_FORM: Final[JsonObject] = {
    "type": "object",
    "required": ["image", "prompt"],
    "properties": {
        "image": _FILE | {"description": "The picture to start from, at most 20 MiB."},
        "mask": _FILE | {"description": "Of the same shape; what is transparent in it is drawn anew."},
        "prompt": prompt_schema(),
        **{name: _OWN_FIELDS[name] for name in ("model", "n", "size", "response_format", "output_format")},
    },
}
_PICTURE: Final = {
    "type": "object",
    "properties": {
        "b64_json": {"type": "string", "contentEncoding": "base64"},
        "url": {"type": "string", "format": "uri"},
        "seed": {"type": "integer"},
    },
}
_PICTURES: Final = {
    "type": "object",
    "required": ["created", "data"],
    "properties": {
        "created": _COUNT,
        "data": {"type": "array", "items": _PICTURE},
        "size": {"type": "string"},
        "output_format": {"type": "string"},
        "cost": {"type": "number", "description": "US dollars."},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
_MODEL: Final = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": _COUNT,
        "owned_by": {"type": "string"},
    },
}
_MODELS: Final = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", ERROR_SCHEMA),
    403: json_response("The API key does not open this.", ERROR_SCHEMA),
    404: json_response("There is no such thing here.", ERROR_SCHEMA),
    429: json_response("A rate limit is reached, or the queue is full; nothing was done.", ERROR_SCHEMA),
    503: json_response("The database did not answer, or the server is about to stop.", ERROR_SCHEMA),
}
_DRAWN: Final = json_response("The pictures; with `stream` as events.", _PICTURES)
_DRAWN["content"]["text/event-stream"] = {
    # OpenAPI 3.1 has no word for a stream: this is one message of it. The last has no name, and says [DONE].
    "schema": {"type": "object", "required": ["data"], "properties": {"event": {"type": "string"}, "data": {}}}
}
_DRAWING: Final = _ERRORS | {
    200: _DRAWN,
    400: json_response("The input is wrong: the error names the field and its limit.", ERROR_SCHEMA),
    402: json_response("The pictures are beyond the API key's monthly budget.", ERROR_SCHEMA),
    415: json_response("The body is packed in a way that is not understood.", ERROR_SCHEMA),
    500: json_response("The picture could not be drawn.", ERROR_SCHEMA),
}


def _route(name: str, methods: str, path: str, operation: Operation, handler: Handler, **others: Any) -> Route:
    return Route(
        name=f"openai_{name}",
        methods=methods,
        path=f"/v1{path}",
        access=KeyHolders(operation, has_endpoint=False),
        handler=handler,
        tag="OpenAI",
        words_of_errors=error_body,
        **others,
    )


ROUTES: Final = (
    _route(
        "images_generations",
        "POST",
        "/images/generations",
        Operation.RUNSYNC,
        images.generations,
        summary="Draw pictures (OpenAI)",
        body=Body(PICTURES_LIMIT_BYTES, _BODY, {"model": "flux-dev", "prompt": "a lighthouse", "size": "512x512"}),
        answers=_DRAWING,
    ),
    _route(
        "images_edits",
        "POST",
        "/images/edits",
        Operation.RUNSYNC,
        images.edits,
        summary="Draw pictures from one (OpenAI)",
        body=Body(EDIT_LIMIT_BYTES, _FORM, media_type="multipart/form-data"),
        answers=_DRAWING,
    ),
    _route("images_variations", "POST", "/images/variations", Operation.RUNSYNC, images.variations, is_described=False),
    _route(
        "models",
        "GET",
        "/models",
        Operation.STATUS,
        models.models,
        summary="The models served here (OpenAI)",
        answers=_ERRORS | {200: json_response("The models.", _MODELS)},
    ),
    _route(
        "model",
        "GET",
        "/models/{model}",
        Operation.STATUS,
        models.model,
        summary="One model (OpenAI)",
        answers=_ERRORS | {200: json_response("The model.", _MODEL)},
    ),
)
