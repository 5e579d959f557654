"""What one picture is made from: a request that is valid by construction."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from flux_endpoint.core.catalog import FloatRange, IntRange, ModelSpec
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import DEFAULT_FORMAT, IMAGE_FORMATS, ImageFormat, either

RANDOM_SEED: Final = -1
# torch.Generator takes 64 bits; 32 fit every client's integer type and the column of every database.
MAX_SEED: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """The parameters of one picture.

    Attributes:
        width: pixels of the file.
        height: pixels of the file.
        guidance: distilled guidance; without effect on schnell.
        true_cfg_scale: strength of the negative prompt; without effect when that is empty.
        seed: concrete, 0 to `MAX_SEED`: the same request always draws the same picture.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance: float
    true_cfg_scale: float
    seed: int
    image_format: ImageFormat

    def to_input(self) -> dict[str, Any]:
        """The request as the `input` object that `parse_input` reads back to an equal request."""
        return asdict(self) | {"image_format": self.image_format.name}

    @classmethod
    def from_input(cls, fields: Mapping[str, Any]) -> "GenerationRequest":
        """Read back what `to_input` wrote; nothing is checked again and nothing is filled in.

        Raises:
            InvalidRequest: a field is missing or unknown, or the format is none of ours: this is no such object.
        """
        try:
            return cls(**{**fields, "image_format": IMAGE_FORMATS[fields["image_format"]]})
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"Invalid request: not a complete FLUX job: {error}") from None


def random_seed() -> int:
    """A seed nobody chose."""
    return secrets.randbelow(MAX_SEED + 1)


def parse_input(
    fields: Mapping[str, Any], spec: ModelSpec, draw_seed: Callable[[], int] = random_seed
) -> GenerationRequest:
    """Check a client's `input` against a model's limits and fill in its defaults.

    Unknown keys are ignored, because official clients send some. Null counts as absent, but for the prompt. A seed of
    -1 is replaced by a drawn one here, so that a re-run after a lost worker draws the same picture.

    Raises:
        InvalidParameter: the first field that is wrong, in the order prompt, negative_prompt, width, height,
            num_inference_steps, guidance, true_cfg_scale, seed, image_format.
    """
    if "prompt" not in fields:
        raise InvalidParameter("prompt", "is required")
    prompt = _text(fields, "prompt", "", spec.max_prompt_chars)
    fields = {name: value for name, value in fields.items() if value is not None}
    if not prompt.strip():
        raise InvalidParameter("prompt", "must not be empty")
    negative_prompt = _text(fields, "negative_prompt", "", spec.max_prompt_chars)
    width, height = _size(fields, spec)
    steps = _integer_in_range(fields, "num_inference_steps", spec.num_inference_steps)
    guidance = _number_in_range(fields, "guidance", spec.guidance)
    true_cfg_scale = _number_in_range(fields, "true_cfg_scale", spec.true_cfg_scale)
    seed = _integer(fields, "seed", RANDOM_SEED)
    if not RANDOM_SEED <= seed <= MAX_SEED:
        raise InvalidParameter("seed", f"must be -1 (random) or between 0 and {MAX_SEED}")
    image_format = _format(fields)
    return GenerationRequest(
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance=guidance,
        true_cfg_scale=true_cfg_scale,
        seed=draw_seed() if seed == RANDOM_SEED else seed,
        image_format=image_format,
    )


def _text(fields: Mapping[str, Any], name: str, default: str, max_chars: int) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise InvalidParameter(name, "must be a string")
    if len(value) > max_chars:
        raise InvalidParameter(name, f"must be at most {max_chars} characters, got {len(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidParameter(name, "must be valid Unicode text, without lone surrogates") from None
    if "\x00" in value:
        # PostgreSQL and PNG text chunks cannot hold it.
        raise InvalidParameter(name, "must not contain the character U+0000")
    return value


def _integer(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    # 1024.0 is what some JSON writers make of 1024; true is a bool, which Python counts as an int.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, "must be an integer")
    return value


def _integer_in_range(fields: Mapping[str, Any], name: str, allowed: IntRange) -> int:
    value = _integer(fields, name, allowed.default)
    if not allowed.minimum <= value <= allowed.maximum:
        raise InvalidParameter(name, f"must be between {allowed.minimum} and {allowed.maximum}")
    if value % allowed.multiple_of:
        raise InvalidParameter(name, f"must be divisible by {allowed.multiple_of}")
    return value


def _number_in_range(fields: Mapping[str, Any], name: str, allowed: FloatRange) -> float:
    value = fields.get(name, allowed.default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidParameter(name, "must be a number")
    # Compared before float(): a huge integer would overflow, and NaN fails every comparison.
    if not allowed.minimum <= value <= allowed.maximum:
        raise InvalidParameter(name, f"must be between {allowed.minimum:g} and {allowed.maximum:g}")
    return float(value)


def _size(fields: Mapping[str, Any], spec: ModelSpec) -> tuple[int, int]:
    size = (
        _integer(fields, "width", spec.size_px.default),
        _integer(fields, "height", spec.size_px.default),
    )
    if size in spec.extra_sizes:
        return size
    return (
        _integer_in_range(fields, "width", spec.size_px),
        _integer_in_range(fields, "height", spec.size_px),
    )


def _format(fields: Mapping[str, Any]) -> ImageFormat:
    value = fields.get("image_format", DEFAULT_FORMAT.name)
    if not isinstance(value, str) or value not in IMAGE_FORMATS:
        raise InvalidParameter("image_format", f"must be {either([repr(name) for name in IMAGE_FORMATS])}")
    return IMAGE_FORMATS[value]
