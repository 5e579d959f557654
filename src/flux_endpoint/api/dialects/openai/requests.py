"""Reads what clients of this dialect send: OpenAI's own fields, and those of FLUX at the same level."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.api.dialects.inputs import inputs_in, submissions_of
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import PNG, either
from flux_endpoint.core.input_kinds import IntRange
from flux_endpoint.core.raw_json import decode_json
from flux_endpoint.core.submission import Submission

DEFAULT_FORMAT: Final = PNG
PICTURES: Final = IntRange(minimum=1, maximum=10, default=1)
PARTIAL_IMAGES: Final = IntRange(minimum=0, maximum=3, default=0)
# Of the field `response_format`: whether the answer has the bytes, and whether it has a link.
RESPONSE_FORMATS: Final[Mapping[str, tuple[bool, bool]]] = {
    "b64_json": (True, False),
    "base64": (True, False),  # Together's word
    "url": (False, True),
}
# Read here; all else is for FLUX, or known to nobody.
_OWN: Final = ("model", "n", "response_format", "stream", "partial_images")


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """What one request asks for.

    Attributes:
        model: as the client named it; None for the server's choice.
        inputs: what is for FLUX.
        pictures: how many.
        with_bytes, with_link: what the answer has for each picture.
        is_streamed: whether the answer comes as events.
        partial_images: how many previews a streamed picture has at most.
    """

    model: str | None
    inputs: Mapping[str, Any]
    pictures: int
    with_bytes: bool
    with_link: bool
    is_streamed: bool
    partial_images: int

    def submissions(self, spec: EndpointSpec) -> list[Submission]:
        """One request for a job per picture; their seeds follow one another.

        Raises:
            InvalidParameter: the first field that is wrong, with its limit.
        """
        return submissions_of(spec, self.inputs, self.pictures)


def read_request(data: bytes) -> ImagesRequest:
    """What a body of `/images/generations` asks for. Null counts as absent.

    Raises:
        InvalidRequest: it is wrong; the text names the field and its limit.
    """
    body = decode_json(data)
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'prompt'")
    return request_of(body)


def request_of(body: Mapping[str, Any]) -> ImagesRequest:
    """What the fields of a body ask for. Null counts as absent.

    Raises:
        InvalidRequest: one is wrong; the text names it and its limit.
    """
    fields = {name: value for name, value in body.items() if value is not None}
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidParameter("model", "must be a string")
    form = fields.get("response_format")
    if form is not None and not (isinstance(form, str) and form in RESPONSE_FORMATS):
        raise InvalidParameter("response_format", f"must be {either([repr(known) for known in RESPONSE_FORMATS])}")
    # Some clients need the one and some the other, and most do not say which.
    with_bytes, with_link = (True, True) if form is None else RESPONSE_FORMATS[form]
    is_streamed = fields.get("stream", False)
    if not isinstance(is_streamed, bool):
        raise InvalidParameter("stream", "must be true or false")
    return ImagesRequest(
        model=model,
        inputs=inputs_in(fields, DEFAULT_FORMAT, but_for=_OWN),
        pictures=PICTURES.read("n", {"n": PICTURES.default} | fields),
        with_bytes=with_bytes,
        with_link=with_link,
        is_streamed=is_streamed,
        partial_images=PARTIAL_IMAGES.read("partial_images", {"partial_images": PARTIAL_IMAGES.default} | fields),
    )
