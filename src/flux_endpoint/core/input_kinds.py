"""Kinds of inputs: which values each takes, in words, in code and as JSON schema."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

from flux_endpoint.core.controlnet import ControlMode
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.core.outbound import require_url
from flux_endpoint.core.source_picture import MAX_SOURCE_BYTES, SourcePicture

RANDOM_SEED: Final = -1
# torch.Generator takes 64 bits; 32 fit every client's integer type and the column of every database.
MAX_SEED: Final = 2**32 - 1

JsonSchema = dict[str, Any]

# What Python takes for white space, and U+0000, which no text may hold.
_BLANK: Final = r"\u0000\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MAX_MEDIA_TYPE_CHARS: Final = 100
_DATA_URL: Final = re.compile(rf"data:[^,]{{0,{_MAX_MEDIA_TYPE_CHARS}}};base64,")
# Four characters for three bytes.
_MAX_DATA_URL_CHARS: Final = -(-MAX_SOURCE_BYTES // 3) * 4 + _MAX_MEDIA_TYPE_CHARS
# What it looks like, for people.
_DATA_URL_FORM: Final = "data: URL in base64: data:MEDIA_TYPE;base64,..."


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
class Choice:
    """The name of one of a few things, which are the members of the default's type."""

    default: StrEnum

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return either(list(type(self.default)))

    def read(self, name: str, fields: Mapping[str, Any]) -> StrEnum:
        """See `Kind.read`."""
        members, value = type(self.default), fields[name]
        if not isinstance(value, str) or value not in list(members):
            raise InvalidParameter(name, f"must be {either([repr(member.value) for member in members])}")
        return members(value)

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        names = [member.value for member in type(self.default)]
        return {"type": "string", "enum": names, "default": self.default.value, "description": help}


@dataclass(frozen=True, slots=True)
class ControlModeName:
    """The name of a `ControlMode`, or its number as the checkpoints count them; empty for none."""

    default: ClassVar[str] = ""

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"{either(list(ControlMode))}, or 0 to {len(ControlMode) - 1} in this order"

    def read(self, name: str, fields: Mapping[str, Any]) -> str | None:
        """See `Kind.read`: the name, None for none."""
        value = fields[name]
        if value == "":
            return None
        modes = list(ControlMode)
        if isinstance(value, str) and value in modes:
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and value in range(len(modes)):
            return modes[int(value)].value
        raise InvalidParameter(name, f"must be {self.words}")

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        values = ["", *(mode.value for mode in ControlMode), *range(len(ControlMode))]
        return {"type": ["string", "integer"], "enum": values, "default": self.default, "description": help}


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture to draw from, by URL or in a `data:` URL; empty for none.

    Attributes:
        default: None where one must be sent.
    """

    default: str | None = ""

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"the http(s) or data: URL of {self.file_words}"

    @property
    def file_words(self) -> str:
        """What the file may be, for people."""
        return f"a {either(list(IMAGE_FORMATS))} file of at most {MAX_SOURCE_BYTES // 2**20} MiB"

    def read(self, name: str, fields: Mapping[str, Any]) -> str | SourcePicture | None:
        """See `Kind.read`: the URL, None for no picture; a picture that is kept already stays what it is."""
        value = fields.get(name)
        if isinstance(value, SourcePicture):
            return value
        if value == "" and self.default is not None:
            return None
        if value is None:
            raise InvalidParameter(name, "is required")
        if not isinstance(value, str) or not value.startswith("data:"):
            return require_url(name, value, f", or a {_DATA_URL_FORM}")
        if len(value) > _MAX_DATA_URL_CHARS:
            raise InvalidParameter(name, f"must be a file of at most {MAX_SOURCE_BYTES // 2**20} MiB")
        if not _DATA_URL.match(value):
            raise InvalidParameter(name, f"must be a {_DATA_URL_FORM}")
        return value

    def schema(self, help: str) -> JsonSchema:
        """See `Kind.schema`."""
        preset = {} if self.default is None else {"default": self.default}
        return {"type": "string", "maxLength": _MAX_DATA_URL_CHARS} | preset | {"description": help}


def _integer(name: str, value: Any) -> int:
    # 1024.0 is what some JSON writers make of 1024; true is a bool, which Python counts as an int.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, "must be an integer")
    return value
