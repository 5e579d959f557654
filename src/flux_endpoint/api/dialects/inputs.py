"""Inputs by the names that other servers of FLUX give them."""

from collections.abc import Iterable, Mapping
from math import gcd
from typing import Any, Final

from flux_endpoint.api.operations import JsonObject
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.core.inputs import INPUTS, MAX_SEED, RANDOM_SEED, SIDE, input_schema, or_null
from flux_endpoint.core.submission import Submission

# One side of a picture, in pixels.
ANY_SIDE: Final = SIDE.any_size
# Pictures that are asked for by their shape.
MEGAPIXEL: Final = 1024 * 1024
_SIDE_STEP: Final = 64
# By the other name: ours. What the table of inputs itself calls an alias is known there.
_OTHER_NAMES: Final[Mapping[str, str]] = {"guidance_scale": "guidance", "output_format": "image_format"}


def inputs_in(fields: Mapping[str, Any], default_format: ImageFormat, but_for: Iterable[str] = ()) -> dict[str, Any]:
    """What of a client's fields FLUX is told, in the names of the table of inputs; null counts as absent.

    Args:
        fields: as they were sent.
        default_format: of the file, where none is asked for.
        but_for: fields that mean something else in this dialect.

    Raises:
        InvalidParameter: there is no such format, or the seed is none.
    """
    names = {alias: row.name for row in INPUTS for alias in (*row.aliases, row.name)}
    inputs: dict[str, Any] = {}
    format_field = "image_format"
    for name, meaning in {**_OTHER_NAMES, **names}.items():
        if fields.get(name) is not None and name not in but_for:
            inputs[meaning] = fields[name]
            format_field = name if meaning == "image_format" else format_field
    wanted = inputs.get("image_format", default_format.name)
    image_format = format_ending_in(wanted) if isinstance(wanted, str) else None
    if image_format is None:
        raise InvalidParameter(format_field, f"must be {either([repr(known) for known in IMAGE_FORMATS])}")
    return inputs | {"image_format": image_format.name}


def submission_of(spec: EndpointSpec, inputs: Mapping[str, Any], webhook: str | None = None) -> Submission:
    """A request for one picture of any size. Seeds beyond 32 bits, which other servers take, are folded.

    Raises:
        InvalidParameter: the first input that is wrong, with its limit.
    """
    seed = inputs.get("seed")
    folded = {"seed": seed % (MAX_SEED + 1)} if type(seed) is int and seed >= 0 else {}
    accepted = spec.accept({**inputs, **folded}, any_size=True)
    return Submission(accepted.input, accepted.cost_usd, webhook=webhook)


def shape_of(ratio: object) -> tuple[int, int]:
    """The two numbers of a shape such as `16:9`, without a common factor.

    Raises:
        InvalidParameter: it is no shape.
    """
    parts = ratio.split(":") if isinstance(ratio, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 1_000 for part in parts):
        raise InvalidParameter("aspect_ratio", "must be two whole numbers such as '16:9'")
    across, down = map(int, parts)
    return across // gcd(across, down), down // gcd(across, down)


def sides_of(ratio: object, pixels: int = MEGAPIXEL) -> tuple[int, int]:
    """Width and height, multiples of 64, of about so many pixels in a shape such as `16:9`.

    Raises:
        InvalidParameter: it is no shape that can be drawn.
    """
    across, down = shape_of(ratio)
    unit = (pixels / (across * down)) ** 0.5
    width, height = (round(side * unit / _SIDE_STEP) * _SIDE_STEP for side in (across, down))
    if not all(ANY_SIDE.minimum <= side <= ANY_SIDE.maximum for side in (width, height)):
        raise InvalidParameter(
            "aspect_ratio", f"asks for {width}x{height}: sides are from {ANY_SIDE.minimum} to {ANY_SIDE.maximum}"
        )
    return width, height


def inputs_schema(but_for: Iterable[str] = ()) -> dict[str, JsonObject]:
    """JSON schema of every input but the prompt, by name, as `inputs_in` and `submission_of` take them."""
    fields = input_schema(FLUX_DEV)["properties"]
    sides = {name: ANY_SIDE.schema(fields[name]["description"]) for name in ("width", "height")}
    seed = {"seed": {"type": "integer", "minimum": RANDOM_SEED, "description": fields["seed"]["description"]}}
    named = fields | sides | seed
    return {name: or_null(one) for name, one in named.items() if name not in ("prompt", *but_for)}


def prompt_schema() -> JsonObject:
    """JSON schema of the prompt."""
    schema: JsonObject = input_schema(FLUX_DEV)["properties"]["prompt"]
    return schema
