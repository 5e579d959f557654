"""Replicate's wire format as a whole."""

from typing import Any, Final

from flux_endpoint.api.admission import Everybody, KeyHolders
from flux_endpoint.api.dialects.inputs import PICTURES_LIMIT_BYTES, inputs_schema, prompt_schema
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.replicate import predictions
from flux_endpoint.api.dialects.replicate.answers import body_with_links, error_body
from flux_endpoint.api.operations import Access, Body, Handler, Route
from flux_endpoint.api.schemas import JsonObject, json_response
from flux_endpoint.core.account import Operation

_STATUSES: Final = {400: 422}

_ERROR: Final = {
    "type": "object",
    "required": ["title", "detail", "status"],
    "properties": {"title": {"type": "string"}, "detail": {"type": "string"}, "status": {"type": "integer"}},
}
_INPUT: Final = {
    "type": "object",
    "required": ["prompt"],
    "properties": {"prompt": prompt_schema()}
    | inputs_schema()
    | {"aspect_ratio": {"type": ["string", "null"], "enum": ["1:1", "16:9", "3:2", "2:3", "4:3", "3:4", "9:16", None]}},
}
_BODY: Final[JsonObject] = {"type": "object", "required": ["input"], "properties": {"input": _INPUT}}
_BODY_WITH_VERSION: Final[JsonObject] = _BODY | {
    "required": ["version", "input"],
    "properties": {"input": _INPUT, "version": {"type": "string", "description": "An id, or the name of a model."}},
}
_PREDICTION: Final = {
    "type": "object",
    "required": ["id", "model", "version", "status", "urls"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "status": {"enum": ["starting", "processing", "succeeded", "failed", "canceled"]},
        "output": {"type": ["array", "null"], "items": {"type": "string"}},
        "error": {"type": ["string", "null"]},
        "urls": {"type": "object"},
    },
}
_PAGE: Final = {"type": "object", "properties": {"results": {"type": "array", "items": _PREDICTION}}}
_ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", _ERROR),
    403: json_response("The API key does not open this.", _ERROR),
    404: json_response("There is no such model or prediction.", _ERROR),
    429: json_response("A rate limit is reached, or the queue is full; nothing was done.", _ERROR),
    503: json_response("The database did not answer.", _ERROR),
}
_READ: Final = _ERRORS | {200: json_response("The prediction.", _PREDICTION)}
_CREATED: Final = _ERRORS | {
    201: json_response("The prediction.", _PREDICTION),
    402: json_response("The picture is beyond the API key's monthly budget.", _ERROR),
    415: json_response("The body is packed in a way that is not understood.", _ERROR),
    422: json_response("The input is wrong: the error names the field and its limit.", _ERROR),
}
_EVENTS: Final[dict[int | str, JsonObject]] = {
    404: _ERRORS[404],
    503: _ERRORS[503],
    200: {
        "description": "Events `logs`, `output`, `error` and `done`.",
        "content": {"text/event-stream": {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}},
    },
}
_EXAMPLE: Final = {"input": {"prompt": "a lighthouse", "width": 512, "height": 512}}


def _route(
    name: str,
    methods: str,
    path: str,
    operation: Operation | None,
    handler: Handler,
    summary: str = "",
    **others: Any,
) -> Route:
    access: Access = Everybody() if operation is None else KeyHolders(operation, has_endpoint=False)
    return Route(
        name=f"replicate_{name}",
        methods=methods,
        path=f"/v1{path}",
        access=access,
        handler=handler,
        summary=f"{summary} (Replicate)",
        tag="Replicate",
        words_of_errors=error_body,
        statuses=_STATUSES,
        **others,
    )


REPLICATE: Final = Dialect(
    predictions.DIALECT,
    (
        _route(
            "create_of_model",
            "POST",
            "/models/{owner}/{name}/predictions",
            Operation.RUN,
            predictions.create_of_model,
            "Draw a picture",
            body=Body(PICTURES_LIMIT_BYTES, _BODY, _EXAMPLE),
            answers=_CREATED,
        ),
        _route(
            "create",
            "POST",
            "/predictions",
            Operation.RUN,
            predictions.create,
            "Draw a picture by a version",
            body=Body(PICTURES_LIMIT_BYTES, _BODY_WITH_VERSION, _EXAMPLE | {"version": "black-forest-labs/flux-dev"}),
            answers=_CREATED,
        ),
        _route(
            "list",
            "GET",
            "/predictions",
            Operation.REQUESTS,
            predictions.listing,
            "The newest predictions",
            answers=_ERRORS | {200: json_response("The predictions.", _PAGE)},
        ),
        _route(
            "get",
            "GET",
            "/predictions/{prediction_id}",
            Operation.STATUS,
            predictions.get,
            "Where a prediction stands",
            answers=_READ,
        ),
        _route(
            "cancel",
            "POST",
            "/predictions/{prediction_id}/cancel",
            Operation.CANCEL,
            predictions.cancel,
            "Stop a prediction",
            answers=_READ,
        ),
        _route(
            "stream",
            "GET",
            "/predictions/{prediction_id}/stream",
            None,
            predictions.stream,
            "Follow a prediction",
            answers=_EVENTS,
        ),
        _route(
            "version",
            "GET",
            "/models/{owner}/{name}/versions/{version_id}",
            Operation.STATUS,
            predictions.version,
            is_described=False,
        ),
        _route("files", "POST", "/files", Operation.RUN, predictions.files, is_described=False),
    ),
    body_with_links,
)
