"""The wire format of Black Forest Labs: a task is made, and its result polled for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.drawing import link_to, problem_of, submit
from flux_endpoint.api.dialects.inputs import (
    PICTURES_LIMIT_BYTES,
    inputs_in,
    inputs_schema,
    picture_url,
    prompt_schema,
    submission_of,
)
from flux_endpoint.api.dialects.models import endpoint_of, job_of
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Body, Call, Route
from flux_endpoint.api.schemas import JsonObject, json_response, query_parameter
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest, UnknownJob
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG
from flux_endpoint.core.inputs import or_null
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import read_progress
from flux_endpoint.core.raw_json import decode_json
from flux_endpoint.service.endpoint import Endpoint

DIALECT: Final = "bfl"
_PIXELS_PER_MEGAPIXEL: Final = 1_000_000
_WEBHOOK: Final = "webhook_url"
_PICTURES: Final = ("input_image", "mask", "image_prompt", "control_image", "preprocessed_image")
_DETAIL: Final = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}


async def create(call: Call, key: ApiKey, model: str) -> Response:
    """Queue a picture; ask `polling_url` until it is `Ready`.

    `steps` and `guidance` as with every dialect; `width` and `height` win over `aspect_ratio`. `input_image` is a
    picture to start from, as a URL or in base64, `mask` where it is drawn anew, and `strength` how far. `image_prompt`
    is one that is read like a prompt, where the server has Redux.
    """
    endpoint = endpoint_of(call.services.endpoints, key, model)
    data = await call.read_body()
    inputs = await call.services.bodies.read(data, read_inputs)
    [job] = await submit(call, endpoint, DIALECT, [submission_of(endpoint.spec, inputs)], is_held=False)
    made = job.input
    assert isinstance(made, Mapping)
    return json_reply(
        {
            "id": job.id,
            "polling_url": f"{call.origin}/v1/get_result?id={job.id}",
            "cost": float(job.cost_usd),
            "output_mp": made["width"] * made["height"] / _PIXELS_PER_MEGAPIXEL,
        }
    )


async def get_result(call: Call, key: ApiKey) -> Response:
    """Where a task stands: `Pending`, `Ready` with a link, or `Error`."""
    job_id = call.query_params.get("id", "")
    try:
        endpoint, job = await job_of(call.services.endpoints, key, job_id, DIALECT)
    except UnknownJob:
        raise UnknownJob("Task not found") from None
    return json_reply({"id": job.id} | _result(call, endpoint, job))


def read_inputs(data: bytes) -> dict[str, Any]:
    """What a body asks for.

    Raises:
        InvalidRequest: it is wrong; the text names the field.
    """
    body = decode_json(data)
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'prompt'")
    if body.get(_WEBHOOK) is not None:
        # Nobody would be told of the end.
        raise InvalidParameter(_WEBHOOK, "is not taken here: no webhook is called")
    pictures = {name: picture_url(body[name]) for name in _PICTURES if body.get(name) is not None}
    return inputs_in({**body, **pictures}, JPEG)


def _result(call: Call, endpoint: Endpoint, job: Job) -> JsonObject:
    if not job.status.is_terminal:
        progress = read_progress(job.progress)
        # A number that is not known must be absent: clients refuse null.
        return {"status": "Pending"} | ({"progress": progress["step"] / progress["total"]} if progress else {})
    if job.status is not JobStatus.COMPLETED:
        return {"status": "Error", "result": None, "details": {"error": problem_of(job)}}
    shown = endpoint.spec.present(job, "")
    made = job.input
    assert isinstance(made, Mapping)
    took_s = (job.execution_time_ms or 0) / 1_000
    sample = {"sample": link_to(call, shown), "prompt": made["prompt"], "seed": made["seed"], "duration": took_s}
    warnings = {"warnings": shown["warnings"]} if "warnings" in shown else {}
    return {"status": "Ready", "result": sample} | warnings


def words_of_errors(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as `{"detail": text}`. Implements `WordsOfErrors`."""
    return {"detail": text}, "application/json"


_OWN_FIELDS: Final[dict[str, JsonObject]] = {
    "aspect_ratio": {"type": "string", "enum": ["1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16"]},
    "output_format": {"type": "string", "enum": list(IMAGE_FORMATS), "default": JPEG.name},
}
_BODY: Final[JsonObject] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {"prompt": prompt_schema()}
    | inputs_schema(but_for=["image_format"])
    | {name: or_null(one) for name, one in _OWN_FIELDS.items()},
}
_TASK: Final = {
    "type": "object",
    "required": ["id", "polling_url"],
    "properties": {"id": {"type": "string"}, "polling_url": {"type": "string"}, "cost": {"type": "number"}},
}
_RESULT: Final = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["Pending", "Ready", "Error"]},
        "result": {"type": ["object", "null"]},
        "progress": {"type": "number"},
    },
}
_ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", _DETAIL),
    403: json_response("The API key does not open this.", _DETAIL),
    404: json_response("There is no such model or task.", _DETAIL),
    429: json_response("A rate limit is reached, or the queue is full; nothing was done.", _DETAIL),
    503: json_response("The database did not answer.", _DETAIL),
}
_CREATED: Final = _ERRORS | {
    200: json_response("The task.", _TASK),
    400: json_response("The input is wrong: the error names the field and its limit.", _DETAIL),
    402: json_response("The picture is beyond the API key's monthly budget.", _DETAIL),
    415: json_response("The body is packed in a way that is not understood.", _DETAIL),
}

BFL: Final = Dialect(
    DIALECT,
    (
        Route(
            name="bfl_create",
            methods="POST",
            path="/v1/{model}",
            access=KeyHolders(Operation.RUN, has_endpoint=False),
            handler=create,
            summary="Draw a picture (Black Forest Labs)",
            tag="Black Forest Labs",
            body=Body(PICTURES_LIMIT_BYTES, _BODY, {"prompt": "a lighthouse", "width": 512, "height": 512}),
            answers=_CREATED,
            words_of_errors=words_of_errors,
        ),
        Route(
            name="bfl_get_result",
            methods="GET",
            path="/v1/get_result",
            access=KeyHolders(Operation.STATUS, has_endpoint=False),
            handler=get_result,
            summary="Where a task stands (Black Forest Labs)",
            tag="Black Forest Labs",
            parameters=[query_parameter("id", {"type": "string"}, "As answered when the task was made.")],
            answers=_ERRORS | {200: json_response("The task.", _RESULT)},
            words_of_errors=words_of_errors,
        ),
    ),
)
