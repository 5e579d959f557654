"""The wire format of A1111's web UI as a whole."""

from typing import Any, Final

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.a1111 import catalogue, pictures
from flux_endpoint.api.dialects.a1111.requests import DEFAULT_SIDE, MODEL_OPTION, PICTURES
from flux_endpoint.api.dialects.a1111.words import DIALECT, error_body
from flux_endpoint.api.dialects.inputs import ANY_SIDE, PICTURES_LIMIT_BYTES, inputs_schema, prompt_schema
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.operations import Body, Handler, Route
from flux_endpoint.api.schemas import JsonObject, json_response
from flux_endpoint.core.account import Operation
from flux_endpoint.core.inputs import or_null

_LIMIT_BYTES: Final = 2**20
# Pictures come in whole.
_PICTURE_LIMIT_BYTES: Final = 2**24
_STATUSES: Final = {400: 422}

_ERROR: Final = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}
_CFG: Final = {"type": ["number", "null"], "minimum": 0, "maximum": 10}
_OWN_FIELDS: Final[dict[str, JsonObject]] = {
    **{side: or_null(ANY_SIDE.schema("Pixels.") | {"default": DEFAULT_SIDE}) for side in ("width", "height")},
    "batch_size": or_null(PICTURES.schema("How many; each is priced.")),
    "cfg_scale": _CFG | {"description": "7 counts as absent."},
    "distilled_cfg_scale": _CFG | {"description": "FLUX's guidance."},
    "override_settings": {"type": ["object", "null"], "properties": {MODEL_OPTION: {"type": ["string", "null"]}}},
}
_BODY: Final[JsonObject] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {"prompt": prompt_schema()} | inputs_schema(but_for=["image_format"]) | _OWN_FIELDS,
}
_BODY_WITH_PICTURE: Final[JsonObject] = _BODY | {
    "required": ["prompt", "init_images"],
    "properties": {
        **{name: one for name, one in _BODY["properties"].items() if name not in ("image", "strength")},
        "init_images": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "string", "minLength": 1}},
        "denoising_strength": _BODY["properties"]["strength"],
    },
}
_PICTURES: Final = {
    "type": "object",
    "required": ["images", "parameters", "info"],
    "properties": {
        "images": {"type": "array", "items": {"type": "string"}},
        "parameters": {"type": "object"},
        "info": {"type": "string"},
    },
}
_PROGRESS: Final = {
    "type": "object",
    "required": ["progress", "eta_relative", "state", "current_image"],
    "properties": {
        "progress": {"type": "number"},
        "eta_relative": {"type": "number"},
        "state": {"type": "object"},
        "current_image": {"type": ["string", "null"]},
    },
}
_ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", _ERROR),
    403: json_response("The API key does not open this.", _ERROR),
    404: json_response("There is no such model or list.", _ERROR),
    429: json_response("A rate limit is reached, or the queue is full; nothing was done.", _ERROR),
    503: json_response("The database did not answer, or the picture was not ready in time.", _ERROR),
}
_SENT: Final = _ERRORS | {
    415: json_response("The body is packed in a way that is not understood.", _ERROR),
    422: json_response("The input is wrong: the error names the field and its limit.", _ERROR),
}
_DRAWN: Final = _SENT | {
    200: json_response("The pictures.", _PICTURES),
    402: json_response("The pictures are beyond the API key's monthly budget.", _ERROR),
    409: json_response("It was interrupted.", _ERROR),
    500: json_response("The picture could not be drawn.", _ERROR),
}
_OBJECT: Final = {"type": "object"}
_TEXTS: Final = {"type": "object", "required": ["info", "items"], "properties": {"info": {"type": "string"}}}
_IMAGE: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "string", "description": "A PNG, base64, as a data URI or bare."}},
}


def _route(name: str, methods: str, path: str, operation: Operation, handler: Handler, **others: Any) -> Route:
    return Route(
        name=f"a1111_{name}",
        methods=methods,
        path=f"/sdapi/v1/{path}",
        access=KeyHolders(operation, has_endpoint=False),
        handler=handler,
        tag="A1111",
        words_of_errors=error_body,
        statuses=_STATUSES,
        **others,
    )


def _done(schema: JsonObject) -> dict[int | str, JsonObject]:
    return _ERRORS | {200: json_response("Done.", schema)}


A1111: Final = Dialect(
    DIALECT,
    (
        _route(
            "txt2img",
            "POST",
            "txt2img",
            Operation.RUNSYNC,
            pictures.txt2img,
            summary="Draw pictures (A1111)",
            body=Body(PICTURES_LIMIT_BYTES, _BODY, {"prompt": "a lighthouse", "width": 512, "height": 512}),
            answers=_DRAWN,
        ),
        _route(
            "img2img",
            "POST",
            "img2img",
            Operation.RUNSYNC,
            pictures.img2img,
            summary="Draw pictures from one (A1111)",
            body=Body(PICTURES_LIMIT_BYTES, _BODY_WITH_PICTURE),
            answers=_DRAWN,
        ),
        _route(
            "progress",
            "GET",
            "progress",
            Operation.STATUS,
            pictures.progress,
            summary="How far pictures are (A1111)",
            answers=_done(_PROGRESS),
        ),
        _route(
            "interrupt",
            "POST",
            "interrupt",
            Operation.CANCEL,
            pictures.interrupt,
            summary="Stop pictures (A1111)",
            answers=_done(_OBJECT),
        ),
        # One picture is all there is of a job: to skip it is to stop it.
        _route("skip", "POST", "skip", Operation.CANCEL, pictures.interrupt, is_described=False),
        _route(
            "options",
            "GET",
            "options",
            Operation.STATUS,
            catalogue.options,
            summary="The chosen model (A1111)",
            answers=_done(_OBJECT),
        ),
        _route(
            "set_options",
            "POST",
            "options",
            # It submits nothing, and changes something.
            Operation.CANCEL,
            catalogue.set_options,
            summary="Choose a model (A1111)",
            body=Body(_LIMIT_BYTES, _OWN_FIELDS["override_settings"] | {"type": "object"}, {MODEL_OPTION: "flux-dev"}),
            answers=_SENT | _done(_OBJECT),
        ),
        _route(
            "models",
            "GET",
            "sd-models",
            Operation.STATUS,
            catalogue.models,
            summary="The models served here (A1111)",
            answers=_done({"type": "array", "items": _OBJECT}),
        ),
        _route(
            "png_info",
            "POST",
            "png-info",
            Operation.STATUS,
            catalogue.png_info,
            summary="The texts in a picture (A1111)",
            body=Body(_PICTURE_LIMIT_BYTES, _IMAGE),
            answers=_SENT | _done(_TEXTS),
        ),
        _route(
            "loras",
            "GET",
            "loras",
            Operation.STATUS,
            catalogue.loras,
            summary="The LoRAs served here (A1111)",
            answers=_done({"type": "array", "items": _OBJECT}),
        ),
        _route("refresh", "POST", "refresh-checkpoints", Operation.STATUS, catalogue.refresh, is_described=False),
        _route("listing", "GET", "{name}", Operation.STATUS, catalogue.listing, is_described=False),
    ),
)
