"""fal's wire format as a whole."""

from typing import Any, Final

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.fal import jobs
from flux_endpoint.api.dialects.fal.answers import webhook_body
from flux_endpoint.api.dialects.fal.door import door_to, enter
from flux_endpoint.api.dialects.fal.requests import DEFAULT_FORMAT, DEFAULT_SIZE, IMAGE_SIZES, PICTURES
from flux_endpoint.api.dialects.fal.words import DIALECT, REQUEST_ID, error_body
from flux_endpoint.api.dialects.inputs import ANY_SIDE, PICTURES_LIMIT_BYTES, inputs_schema, prompt_schema
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.operations import Body, Handler, Route
from flux_endpoint.api.schemas import JsonObject, json_response, query_parameter
from flux_endpoint.core.account import Operation
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from flux_endpoint.core.inputs import or_null

_STATUSES: Final = {400: 422}

_ERROR: Final = {
    "type": "object",
    "required": ["detail", "message"],
    "properties": {"detail": {"type": ["string", "array"]}, "message": {"type": "string"}},
}
_OWN_FIELDS: Final[dict[str, JsonObject]] = {
    "image_size": {
        "anyOf": [
            {"type": "string", "enum": list(IMAGE_SIZES)},
            {
                "type": "object",
                "properties": {side: ANY_SIDE.schema("Pixels.") for side in ("width", "height")},
            },
            {"type": "null"},
        ],
        "default": DEFAULT_SIZE,
    },
    "num_images": or_null(PICTURES.schema("How many; each is priced. In the queue, and streamed: one.")),
    "sync_mode": or_null({"type": "boolean", "description": "Whether the pictures stand in the answer. Not queued."}),
    "output_format": or_null({"type": "string", "enum": list(IMAGE_FORMATS), "default": DEFAULT_FORMAT.name}),
}
_BODY: Final[JsonObject] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {"prompt": prompt_schema()} | inputs_schema(but_for=["image_format"]) | _OWN_FIELDS,
}
_BODY_WITH_PICTURE: Final[JsonObject] = _BODY | {
    "required": ["prompt", "image_url"],
    "properties": _BODY["properties"]
    | {"image_url": _BODY["properties"]["image"] | {"type": "string", "minLength": 1}},
}
_EXAMPLE: Final = {"prompt": "a lighthouse", "image_size": {"width": 512, "height": 512}}
_RESULT: Final = {
    "type": "object",
    "required": ["images", "seed"],
    "properties": {
        "images": {
            "type": "array",
            "items": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}},
        },
        "seed": {"type": "integer"},
        "timings": {"type": "object"},
        "prompt": {"type": "string"},
    },
}
_QUEUED: Final = {
    "type": "object",
    "required": ["request_id", "response_url", "status_url", "cancel_url", "status"],
    "properties": {
        "request_id": {"type": "string"},
        "status": {"enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
        "queue_position": {"type": "integer"},
        "logs": {"type": ["array", "null"]},
    },
}
_STATUS_WORD: Final = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
_EVENTS: Final = {
    "description": "Events with `data` only.",
    "content": {"text/event-stream": {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}},
}
_ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", _ERROR),
    403: json_response("The API key does not open this.", _ERROR),
    404: json_response("There is no such model or request.", _ERROR),
    429: json_response("A rate limit is reached, or the queue is full; nothing was done.", _ERROR),
    503: json_response("The database did not answer.", _ERROR),
}
_MADE: Final = _ERRORS | {
    402: json_response("The picture is beyond the API key's monthly budget.", _ERROR),
    415: json_response("The body is packed in a way that is not understood.", _ERROR),
    422: json_response("The input is wrong: the error names the field and its limit.", _ERROR),
}
_NOT_DRAWN: Final[dict[int | str, JsonObject]] = {
    499: json_response("The request was cancelled.", _ERROR),
    500: json_response("The picture could not be drawn.", _ERROR),
    504: json_response("The picture was not ready in time.", _ERROR),
}
_DRAWN: Final = _NOT_DRAWN | {200: json_response("The pictures.", _RESULT)}
_WEBHOOK: Final = query_parameter("fal_webhook", {"type": "string"}, "Who hears of the end.")
_LOGS: Final = query_parameter("logs", {"enum": ["0", "1", "false", "true"]}, "Whether the answer has log lines.")


def _route(name: str, methods: str, path: str, operation: Operation, handler: Handler, **others: Any) -> Route:
    return Route(
        name=f"fal_{name}",
        methods=methods,
        path=f"/fal{path}",
        access=KeyHolders(operation, has_endpoint=False),
        handler=handler,
        tag="fal",
        words_of_errors=error_body,
        made_header=REQUEST_ID,
        **others,
    )


def _making(name: str, path: str, operation: Operation, handler: Handler, summary: str, **others: Any) -> Route:
    is_from_picture = path.endswith(f"/{jobs.FROM_PICTURE}")
    body = Body(PICTURES_LIMIT_BYTES, _BODY_WITH_PICTURE if is_from_picture else _BODY, _EXAMPLE)
    return _route(
        name, "POST", path, operation, handler, summary=f"{summary} (fal)", body=body, statuses=_STATUSES, **others
    )


_APP: Final = "/{owner}/{app}/{name}"
_REQUEST: Final = "/queue/{owner}/{app}/requests/{request_id}"
_ROUTES: Final = (
    _making("run", f"/run{_APP}", Operation.RUNSYNC, jobs.run, "Draw pictures", answers=_MADE | _DRAWN),
    _making(
        "stream",
        f"/run{_APP}/stream",
        Operation.RUNSYNC,
        jobs.stream,
        "Draw a picture and watch it form",
        answers=_MADE | {200: _EVENTS},
    ),
    _making(
        "submit",
        f"/queue{_APP}",
        Operation.RUN,
        jobs.submit_one,
        "Queue a picture",
        parameters=[_WEBHOOK],
        answers=_MADE | {200: json_response("The request.", _QUEUED)},
    ),
    _making(
        "run_from_picture",
        f"/run{_APP}/{jobs.FROM_PICTURE}",
        Operation.RUNSYNC,
        jobs.run,
        "Draw pictures from one",
        answers=_MADE | _DRAWN,
    ),
    _making(
        "submit_from_picture",
        f"/queue{_APP}/{jobs.FROM_PICTURE}",
        Operation.RUN,
        jobs.submit_one,
        "Queue a picture that is drawn from one",
        parameters=[_WEBHOOK],
        answers=_MADE | {200: json_response("The request.", _QUEUED)},
    ),
    _route(
        "status",
        "GET",
        f"{_REQUEST}/status",
        Operation.STATUS,
        jobs.status,
        summary="Where a request stands (fal)",
        parameters=[_LOGS],
        answers=_ERRORS | {200: json_response("The request.", _QUEUED)},
    ),
    _route(
        "status_stream",
        "GET",
        f"{_REQUEST}/status/stream",
        Operation.STATUS,
        jobs.status_stream,
        summary="Follow a request (fal)",
        parameters=[_LOGS],
        answers=_ERRORS | {200: _EVENTS},
    ),
    _route(
        "result",
        "GET",
        _REQUEST,
        Operation.STATUS,
        jobs.result,
        summary="The picture of a request (fal)",
        answers=_ERRORS | _DRAWN | {400: json_response("The request is still in progress.", _ERROR)},
    ),
    _route(
        "cancel",
        "PUT",
        f"{_REQUEST}/cancel",
        Operation.CANCEL,
        jobs.cancel_one,
        summary="Stop a request (fal)",
        answers=_ERRORS
        | {
            202: json_response("It will be drawn no further.", _STATUS_WORD),
            400: json_response("It has ended.", _STATUS_WORD),
        },
    ),
    _route("upload", "POST", "/rest/storage/upload/{kind}", Operation.RUN, jobs.upload, is_described=False),
    *(
        _route(f"unknown_{number}", "POST", path, Operation.RUN, jobs.unknown, is_described=False)
        for number, path in enumerate(
            f"/{place}/{'/'.join(parts)}"
            for place in ("run", "queue")
            for parts in (["{owner}", "{app}"], ["{owner}", "{app}", "{name}", "{mode}"])
        )
    ),
)

FAL: Final = Dialect(
    DIALECT,
    (
        *_ROUTES,
        Route(
            name="fal_proxy",
            methods="POST GET PUT",
            path="/fal/proxy",
            access=door_to(_ROUTES),
            handler=enter,
            words_of_errors=error_body,
            made_header=REQUEST_ID,
            is_described=False,
        ),
    ),
    webhook_body,
)
