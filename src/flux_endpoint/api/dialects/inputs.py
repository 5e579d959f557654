"""Inputs as dialects take them whose clients write those of FLUX beside fields of their own."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import random_seed
from flux_endpoint.core.image_formats import ImageFormat
from flux_endpoint.core.input_kinds import MAX_SEED, RANDOM_SEED
from flux_endpoint.core.inputs import INPUTS, SIDE, input_schema, or_null
from flux_endpoint.core.submission import Submission

# Of a body with pictures in base64: as much as `/runsync` takes.
PICTURES_LIMIT_BYTES: Final = 20 * 2**20
# One side of a picture, in pixels.
ANY_SIDE: Final = SIDE.any_size
_FORMAT_NAMES: Final = frozenset(
    name for row in INPUTS if row.name == "image_format" for name in (row.name, *row.aliases)
)
# Of one job; in these dialects it has one picture.
_COUNT: Final = "num_images"
_COUNT_NAMES: Final = tuple(name for row in INPUTS if row.name == _COUNT for name in (row.name, *row.aliases))


def inputs_in(fields: Mapping[str, Any], default_format: ImageFormat, but_for: Iterable[str] = ()) -> dict[str, Any]:
    """What of a client's fields is for FLUX, as it was sent; null counts as absent.

    Args:
        fields: as they were sent.
        default_format: of the file, where none is asked for.
        but_for: fields that the dialect reads itself.
    """
    own = frozenset(but_for)
    inputs = {name: value for name, value in fields.items() if value is not None and name not in own}
    has_format = not _FORMAT_NAMES.isdisjoint(inputs)
    return inputs if has_format else inputs | {"image_format": default_format.name}


def picture_url(value: Any) -> Any:
    """What some clients send for a picture, as `PictureFile` takes it: base64 stands for a file; else as it is."""
    is_bare = isinstance(value, str) and not value.startswith(("data:", "http:", "https:"))
    return f"data:;base64,{value}" if is_bare and value else value


def submission_of(spec: EndpointSpec, inputs: Mapping[str, Any], webhook: str | None = None) -> Submission:
    """A request for one picture of any size. Seeds beyond 32 bits, which other servers take, are folded.

    Raises:
        InvalidParameter: the first input that is wrong, with its limit.
    """
    seed = inputs.get("seed")
    folded = {"seed": seed % (MAX_SEED + 1)} if type(seed) is int and seed >= 0 else {}
    counts = {name: inputs[name] for name in _COUNT_NAMES if inputs.get(name) is not None}
    alone = {name: value for name, value in inputs.items() if name not in counts} if counts else inputs
    told = tuple(_one_picture(name, value) for name, value in counts.items() if value != 1)
    accepted = spec.accept({**alone, **folded}, any_size=True)
    warnings, sent = told + accepted.warnings, accepted.sent
    return Submission(accepted.input, accepted.cost_usd, webhook=webhook, warnings=warnings, sent=sent)


def submissions_of(spec: EndpointSpec, inputs: Mapping[str, Any], pictures: int) -> list[Submission]:
    """Requests for some pictures, one for each; their seeds follow one another. Else as `submission_of`."""
    first = inputs.get("seed", RANDOM_SEED)
    if first == RANDOM_SEED:
        first = random_seed()
    # What is no seed is refused with the other inputs.
    seeds = [first + number if type(first) is int and first >= 0 else first for number in range(pictures)]
    return [submission_of(spec, {**inputs, "seed": seed}) for seed in seeds]


def inputs_schema(but_for: Iterable[str] = ()) -> dict[str, JsonObject]:
    """JSON schema of every input but the prompt, by name, as `inputs_in` and `submission_of` take them."""
    fields = input_schema(FLUX_DEV)["properties"]
    sides = {name: ANY_SIDE.schema(fields[name]["description"]) for name in ("width", "height")}
    seed = {"seed": {"type": "integer", "minimum": RANDOM_SEED, "description": fields["seed"]["description"]}}
    named = fields | sides | seed
    return {name: or_null(one) for name, one in named.items() if name not in ("prompt", _COUNT, *but_for)}


def prompt_schema() -> JsonObject:
    """JSON schema of the prompt."""
    schema: JsonObject = input_schema(FLUX_DEV)["properties"]["prompt"]
    return schema


def _one_picture(name: str, value: object) -> str:
    # JSON makes no difference between 1 and 1.0.
    if type(value) not in (int, float) or not isinstance(value, int | float) or value < 1 or value % 1:
        raise InvalidParameter(name, "must be a whole number from 1")
    return f"{name}: one picture is drawn for one request; send one for each, with a seed of its own"
