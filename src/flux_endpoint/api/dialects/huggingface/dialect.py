"""Hugging Face's wire format: one address per model, a prompt in, the bytes of a picture out."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.drawing import TOO_LATE, bytes_of, drawn, link_to, naming, problem_of
from flux_endpoint.api.dialects.inputs import (
    PICTURES_LIMIT_BYTES,
    inputs_in,
    inputs_schema,
    picture_url,
    prompt_schema,
    submission_of,
)
from flux_endpoint.api.dialects.models import endpoint_of
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.operations import Body, Call, Route
from flux_endpoint.api.schemas import ERROR_SCHEMA, ERRORS, JsonObject, json_response
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, PNG, ImageFormat
from flux_endpoint.core.job import JobStatus
from flux_endpoint.core.raw_json import decode_json

DIALECT: Final = "huggingface"
_DEFAULT_FORMAT: Final = PNG
_LONGEST_S: Final = 590.0
# The JavaScript client repeats a call after a 503 for ever, without a pause.
_STATUSES: Final = {503: 429}


async def text_to_image(call: Call, key: ApiKey, model: str) -> Response:
    """Draw a picture and answer its bytes, in the format that `Accept` names. A client that hangs up cancels it.

    `parameters` has every input of FLUX; `guidance_scale` is `guidance`. With a `prompt` among them, `inputs` is a
    picture to start from, in base64, and `target_size` the size of the result.
    """
    endpoint = endpoint_of(call.services.endpoints, key, model)
    data = await call.read_body()
    inputs, own = await call.services.bodies.read(data, read_inputs, _accepted(call))
    with naming({own: "inputs"}):
        [job] = await drawn(call, endpoint, DIALECT, [submission_of(endpoint.spec, inputs)], _LONGEST_S)
    if not job.status.is_terminal:
        raise HTTPException(504, TOO_LATE)
    if job.status is not JobStatus.COMPLETED:
        raise HTTPException(500, problem_of(job))
    shown = endpoint.spec.present(job, "")
    picture = await bytes_of(call, shown)
    if picture is None:
        return RedirectResponse(link_to(call, shown), 303)
    made = job.input
    assert isinstance(made, Mapping)
    return Response(picture, media_type=IMAGE_FORMATS[made["image_format"]].media_type)


def read_inputs(data: bytes, default_format: ImageFormat) -> tuple[dict[str, Any], str]:
    """What a body asks for, and which of it stood in `inputs`.

    Raises:
        InvalidRequest: it is wrong; the text names the field.
    """
    body = decode_json(data)
    if not isinstance(body, Mapping) or body.get("inputs") is None:
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'inputs'")
    parameters = body.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise InvalidParameter("parameters", "must be a JSON object")
    if not isinstance(body["inputs"], str):
        raise InvalidParameter("inputs", "must be a string: the prompt, or a picture beside parameters.prompt")
    if parameters.get("prompt") is None:
        return inputs_in(parameters, default_format) | {"prompt": body["inputs"]}, "prompt"
    size = parameters.get("target_size")
    if size is not None and not isinstance(size, Mapping):
        raise InvalidParameter("target_size", "must be an object with width and height")
    sides = {side: size[side] for side in ("width", "height") if size.get(side) is not None} if size else {}
    inputs = inputs_in(parameters, default_format, but_for=["target_size"])
    mask = {"mask": picture_url(inputs["mask"])} if "mask" in inputs else {}
    return sides | inputs | mask | {"image": picture_url(body["inputs"])}, "image"


def _accepted(call: Call) -> ImageFormat:
    accepted = call.headers.get("accept", "")
    return next((row for row in IMAGE_FORMATS.values() if row.media_type in accepted), _DEFAULT_FORMAT)


_PICTURE: Final[JsonObject] = {
    "description": "The picture.",
    "content": {row.media_type: {"schema": {"type": "string", "format": "binary"}} for row in IMAGE_FORMATS.values()},
}
_BODY: Final[JsonObject] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": prompt_schema() | {"description": "The prompt; or a picture in base64, beside a `prompt` below."},
        "parameters": {"type": ["object", "null"], "properties": inputs_schema()},
    },
}
_ANSWERS: Final = {status: told for status, told in ERRORS.items() if status != 503} | {
    200: _PICTURE,
    303: {"description": "The picture lies elsewhere."},
    400: json_response("The input is wrong: the error names the field and its limit.", ERROR_SCHEMA),
    402: json_response("The picture is beyond the API key's monthly budget.", ERROR_SCHEMA),
    415: json_response("The body is packed in a way that is not understood.", ERROR_SCHEMA),
    500: json_response("The picture could not be drawn.", ERROR_SCHEMA),
    504: json_response("The picture was not ready in time.", ERROR_SCHEMA),
}

HUGGINGFACE: Final = Dialect(
    DIALECT,
    (
        Route(
            name="huggingface_text_to_image",
            methods="POST",
            path="/hf/{model}",
            access=KeyHolders(Operation.RUNSYNC, has_endpoint=False),
            handler=text_to_image,
            summary="Draw a picture (Hugging Face)",
            tag="Hugging Face",
            body=Body(PICTURES_LIMIT_BYTES, _BODY, {"inputs": "a lighthouse", "parameters": {"width": 512}}),
            answers=_ANSWERS,
            statuses=_STATUSES,
        ),
    ),
)
