"""Reads what fal's clients send."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.api.dialects.inputs import inputs_in, submissions_of
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import JPEG, either
from flux_endpoint.core.input_kinds import IntRange
from flux_endpoint.core.raw_json import decode_json
from flux_endpoint.core.submission import Submission

IMAGE_SIZES: Final[Mapping[str, tuple[int, int]]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
DEFAULT_SIZE: Final = "landscape_4_3"
DEFAULT_FORMAT: Final = JPEG
PICTURES: Final = IntRange(minimum=1, maximum=4, default=1)
# Pictures that this server cannot use: without them it would be another picture.
_NOT_TAKEN: Final = ("image_urls",)
# Of fal's FLUX, where it starts from a picture.
_STRENGTH: Final = 0.95
# Read here; all else is for FLUX, or known to nobody.
_OWN: Final = ("image_size", "num_images", "sync_mode", *_NOT_TAKEN)
_SIDES: Final = ("width", "height")
# Say which shape the result has, where `image_size` does not.
_SHAPES: Final = ("size", "aspect_ratio", "image_url", "control_image_url")
_PIXELS: Final = re.compile(r"(\d{1,5})[x*](\d{1,5})")


@dataclass(frozen=True, slots=True)
class FalRequest:
    """What one body asks for.

    Attributes:
        inputs: what is for FLUX.
        pictures: how many.
        is_inline: whether the pictures stand in the answer as data URIs.
    """

    inputs: Mapping[str, Any]
    pictures: int
    is_inline: bool

    def submissions(self, spec: EndpointSpec) -> list[Submission]:
        """One request for a job per picture; their seeds follow one another.

        Raises:
            InvalidParameter: the first field that is wrong, with its limit.
        """
        return submissions_of(spec, self.inputs, self.pictures)


def read_request(data: bytes, from_picture: bool = False) -> FalRequest:
    """What a body asks for. Null counts as absent.

    Args:
        data: the body.
        from_picture: whether there must be a picture to start from.

    Raises:
        InvalidRequest: it is wrong; the text names the field and its limit.
    """
    body = decode_json(data)
    if not isinstance(body, Mapping):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'prompt'")
    fields = {name: value for name, value in body.items() if value is not None}
    for name in _NOT_TAKEN:
        if fields.get(name, []) != []:
            raise InvalidParameter(name, "is not taken here: send one picture to start from, as image_url")
    if from_picture and not fields.get("image_url"):
        raise InvalidParameter("image_url", "is required: the picture to start from")
    is_inline = fields.get("sync_mode", False)
    if not isinstance(is_inline, bool):
        raise InvalidParameter("sync_mode", "must be true or false")
    return FalRequest(
        inputs=_size(fields) | _strength(fields) | inputs_in(fields, DEFAULT_FORMAT, but_for=_OWN),
        pictures=PICTURES.read("num_images", {"num_images": PICTURES.default} | fields),
        is_inline=is_inline,
    )


def _strength(fields: Mapping[str, Any]) -> dict[str, float]:
    return {"strength": _STRENGTH} if fields.get("image_url") and "strength" not in fields else {}


def _size(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Sides by name or in pixels; those that stand beside `image_size`, as other servers have them, win."""
    if "image_size" not in fields and not fields.keys().isdisjoint(_SHAPES):
        return {}
    size = fields.get("image_size", DEFAULT_SIZE)
    if isinstance(size, Mapping):
        return {side: size[side] for side in _SIDES if size.get(side) is not None}
    if isinstance(size, str):
        if size in IMAGE_SIZES:
            return dict(zip(_SIDES, IMAGE_SIZES[size], strict=True))
        if (pixels := _PIXELS.fullmatch(size)) is not None:
            return {"width": int(pixels[1]), "height": int(pixels[2])}
    names = either([repr(known) for known in IMAGE_SIZES])
    raise InvalidParameter("image_size", f"must be {names}, or an object with width and height")
