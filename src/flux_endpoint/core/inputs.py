"""The table of inputs: what a client may say about a picture.

Parser, JSON schema, catalogue, command line, reference page and the picture's file all read it.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import DEFAULT_FORMAT, IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.core.lora import LoraList

RANDOM_SEED: Final = -1
# torch.Generator takes 64 bits; 32 fit every client's integer type and the column of every database.
MAX_SEED: Final = 2**32 - 1
MAX_PICTURES: Final = 4

JsonSchema = dict[str, Any]

# What Python takes for white space, and U+0000, which no text may hold.
_BLANK: Final = r"\u0000\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


class Kind(Protocol):
    """Which values an input takes."""

    @property
    def default(self) -> Any:
        """What stands for an absent value; None where one must be sent."""
        ...

    @property
    def words(self) -> str:
        """What may be sent, for people."""
        ...

    def read(self, name: str, fields: Mapping[str, Any]) -> Any:
        """The value of one input.

        Args:
            name: of the input.
            fields: all that was sent, and the defaults of what was not.

        Raises:
            InvalidParameter: the value is wrong.
        """
        ...

    def schema(self, help: str) -> JsonSchema:
        """JSON schema of what may be sent, with words for people."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Text that models and files can hold. Without a default it must say something."""

    max_chars: int
    default: str | None = None

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"{'at most' if self.default is not None else '1 to'} {self.max_chars:,} characters"

    def read(self, name: str, fields: Mapping[str, Any]) -> str:
        """See `Kind.read`."""
        if name not in fields:
            raise InvalidParameter(name, "is required")
        value = fields[name]
        if not isinstance(value, str):
            raise InvalidParameter(name, "must be a string")
        if len(value) > self.max_chars:
            raise InvalidParameter(name, f"must be at most {self.max_chars} characters, got {len(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidParameter(name, "must be valid Unicode text, without lone surrogates") from None
        if "\x00" in value:
            # PostgreSQL and PNG text chunks cannot hold it.
            raise InvalidParameter(name, "must not contain the character U+0000")
        if self.default is None and not value.strip():
            raise InvalidParameter(name, "must not be empty")
        return value

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        text = {"type": "string", "maxLength": self.max_chars, "pattern": r"^[^\u0000]*$"}
        if self.default is None:
            more: JsonSchema = {"minLength": 1, "pattern": rf"^[^\u0000]*[^{_BLANK}][^\u0000]*$"}
        else:
            more = {"default": self.default}
        return text | more | {"description": help}


@dataclass(frozen=True)
class IntRange:
    """Whole numbers; both ends included."""

    minimum: int
    maximum: int
    default: int
    multiple_of: int = 1

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        step = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"{self.minimum} to {self.maximum}{step}"

    def read(self, name: str, fields: Mapping[str, Any]) -> int:
        """See `Kind.read`."""
        value = fields[name] if type(fields[name]) is int else _integer(name, fields[name])
        if not self.minimum <= value <= self.maximum:
            raise InvalidParameter(name, f"must be between {self.minimum} and {self.maximum}")
        if value % self.multiple_of:
            raise InvalidParameter(name, f"must be divisible by {self.multiple_of}")
        return value

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        limits = {"minimum": self.minimum, "maximum": self.maximum, "default": self.default}
        step = {"multipleOf": self.multiple_of} if self.multiple_of > 1 else {}
        return {"type": "integer"} | limits | {"description": help} | step


@dataclass(frozen=True)
class Side(IntRange):
    """One side of the picture, in pixels.

    Attributes:
        odd_sizes: (width, height) pairs that are taken although they break the range; the picture is rendered at the
            next workable size and cropped.
    """

    odd_sizes: frozenset[tuple[int, int]] = frozenset()

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"{super().words}; also {', '.join(f'{width}x{height}' for width, height in sorted(self.odd_sizes))}"

    def read(self, name: str, fields: Mapping[str, Any]) -> int:
        """See `Kind.read`."""
        sent = (fields["width"], fields["height"])
        # Compared one by one: what was sent may be a list, which has no hash.
        if any(size == sent for size in self.odd_sizes):
            return int(fields[name])
        return super().read(name, fields)

    @property
    def any_size(self) -> IntRange:
        """The same without the need of a multiple: what does not fit is rendered larger and cropped."""
        return IntRange(self.minimum, self.maximum, self.default)


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers; both ends included."""

    minimum: float
    maximum: float
    default: float

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"{self.minimum:g} to {self.maximum:g}"

    def read(self, name: str, fields: Mapping[str, Any]) -> float:
        """See `Kind.read`."""
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidParameter(name, "must be a number")
        # Compared before float(): a huge integer would overflow, and NaN fails every comparison.
        if not self.minimum <= value <= self.maximum:
            raise InvalidParameter(name, f"must be between {self.minimum:g} and {self.maximum:g}")
        return float(value)

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        limits = {"minimum": self.minimum, "maximum": self.maximum, "default": self.default}
        return {"type": "number"} | limits | {"description": help}


@dataclass(frozen=True, slots=True)
class Seed:
    """A number to start from, or `RANDOM_SEED` for whoever accepts the request to draw one."""

    default: ClassVar[int] = RANDOM_SEED

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"0 to {MAX_SEED}"

    def read(self, name: str, fields: Mapping[str, Any]) -> int:
        """See `Kind.read`."""
        value = fields[name] if type(fields[name]) is int else _integer(name, fields[name])
        if not RANDOM_SEED <= value <= MAX_SEED:
            raise InvalidParameter(name, f"must be {RANDOM_SEED} (random) or between 0 and {MAX_SEED}")
        return value

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        return IntRange(RANDOM_SEED, MAX_SEED, RANDOM_SEED).schema(help)


@dataclass(frozen=True, slots=True)
class FormatName:
    """The name of one of the picture formats."""

    default: str

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return either(list(IMAGE_FORMATS))

    def read(self, name: str, fields: Mapping[str, Any]) -> ImageFormat:
        """See `Kind.read`."""
        value = fields[name]
        image_format = format_ending_in(value) if isinstance(value, str) else None
        if image_format is None:
            raise InvalidParameter(name, f"must be {either([repr(known) for known in IMAGE_FORMATS])}")
        return image_format

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        return {"type": "string", "enum": list(IMAGE_FORMATS), "default": self.default, "description": help}


@dataclass(frozen=True, slots=True)
class LevelName:
    """The name of one of the speed levels."""

    default: Acceleration = Acceleration.NONE

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return either(list(Acceleration))

    def read(self, name: str, fields: Mapping[str, Any]) -> Acceleration:
        """See `Kind.read`."""
        value = fields[name]
        if not isinstance(value, str) or value not in list(Acceleration):
            raise InvalidParameter(name, f"must be {either([repr(level.value) for level in Acceleration])}")
        return Acceleration(value)

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        names = [level.value for level in Acceleration]
        return {"type": "string", "enum": names, "default": self.default.value, "description": help}


def _integer(name: str, value: Any) -> int:
    # 1024.0 is what some JSON writers make of 1024; true is a bool, which Python counts as an int.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, "must be an integer")
    return value


@dataclass(frozen=True, slots=True)
class Input:
    """One row.

    Attributes:
        name: on the wire, and of the field of `GenerationRequest`.
        help: for people.
        kind: which values it takes with every model that `kinds` does not name.
        in_file: its name in the picture's file; empty where the file shows it anyway.
        aliases: names under which it may be sent too; the name itself wins. Names of another form: `other_names`.
        kinds: which values it takes with some models.
    """

    name: str
    help: str
    kind: Kind
    in_file: str = ""
    aliases: tuple[str, ...] = ()
    kinds: Mapping[ModelFamily, Kind] = field(default_factory=dict)

    def in_words(self, say: Callable[[Kind], str]) -> str:
        """What is said of its kind, and where a model has another one, of that too: `1 to 50; schnell: 1 to 8`."""
        usual = say(self.kind)
        others = {family: say(kind) for family, kind in self.kinds.items()}
        return "; ".join([usual, *(f"{family}: {words}" for family, words in others.items() if words != usual)])


# Far beyond 512 tokens of any language, small enough for a database row.
_MAX_PROMPT_CHARS: Final = 10_000
# Sent by @runpod/ai-sdk-provider for its aspect ratios 1:1, 4:3 and 3:4.
_AI_SDK_SIZES: Final = frozenset({(1328, 1328), (1472, 1140), (1140, 1472)})
SIDE: Final = Side(minimum=256, maximum=1536, default=1024, multiple_of=64, odd_sizes=_AI_SDK_SIZES)

# In the order in which they are checked, shown, and written into files.
INPUTS: Final = (
    Input("prompt", "What the picture shows.", Text(_MAX_PROMPT_CHARS), in_file="prompt"),
    Input(
        "negative_prompt",
        "What it must not show. Not empty: a second pass per step.",
        Text(_MAX_PROMPT_CHARS, default=""),
        in_file="negative_prompt",
    ),
    Input("width", "Pixels.", SIDE, in_file="width"),
    Input("height", "Pixels.", SIDE, in_file="height"),
    Input(
        "num_inference_steps",
        "Denoising steps.",
        IntRange(minimum=1, maximum=50, default=28),
        in_file="steps",
        aliases=("steps",),
        kinds={ModelFamily.SCHNELL: IntRange(minimum=1, maximum=8, default=4)},
    ),
    Input(
        "guidance",
        "Distilled guidance. Without effect on Flux Schnell.",
        FloatRange(minimum=0.0, maximum=10.0, default=7.5),
        in_file="guidance",
        aliases=("guidance_scale",),
    ),
    Input(
        "true_cfg_scale",
        "Strength of the negative prompt.",
        # Chosen by counting pictures: docs/decisions/0004-negative-prompts.md
        FloatRange(minimum=1.0, maximum=10.0, default=3.0),
        in_file="true_cfg_scale",
    ),
    Input("seed", "Same seed, same picture. -1 draws one.", Seed(), in_file="seed"),
    Input(
        "num_images",
        "Pictures of one job; their seeds follow one another, and each is priced.",
        IntRange(minimum=1, maximum=MAX_PICTURES, default=1),
        aliases=("n", "num_outputs", "num_images_per_prompt"),
    ),
    Input(
        "image_format",
        "Of the picture's file.",
        FormatName(default=DEFAULT_FORMAT.name),
        aliases=("output_format",),
    ),
    Input(
        "acceleration",
        "How much faster than exact: `regular` is never more than 1 of 255 off, `high` looks the same.",
        LevelName(),
        in_file="acceleration",
    ),
    Input("loras", "Small files that change what the model draws, by name.", LoraList(), in_file="loras"),
)


@functools.cache
def inputs_of(spec: ModelSpec, *, any_size: bool = False) -> tuple[tuple[Input, Kind], ...]:
    """The inputs that a model takes, with its kind of each; with `any_size` sides need be no multiple of anything."""
    chosen = {"acceleration": LevelName(spec.acceleration)}
    rows = ((row, chosen.get(row.name) or row.kinds.get(spec.family, row.kind)) for row in INPUTS)
    return tuple((row, kind.any_size if any_size and isinstance(kind, Side) else kind) for row, kind in rows)


@functools.cache
def defaults_of(spec: ModelSpec) -> Mapping[str, Any]:
    """What the inputs that need not be sent are read as when they are absent."""
    rows = [(row.name, kind) for row, kind in inputs_of(spec) if kind.default is not None]
    fields = {name: kind.default for name, kind in rows}
    return {name: kind.read(name, fields) for name, kind in rows}


def input_schema(spec: ModelSpec) -> JsonSchema:
    """JSON schema of a model's `input`."""
    rows = inputs_of(spec)
    return {
        "type": "object",
        "title": f"{spec.display_name} input",
        "required": [row.name for row, kind in rows if kind.default is None],
        "properties": {row.name: kind.schema(row.help) for row, kind in rows},
    }


def or_null(schema: JsonSchema) -> JsonSchema:
    """The schema of a value that may be null too: some languages cannot leave a key out."""
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | values
