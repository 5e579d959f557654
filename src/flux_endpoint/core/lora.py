"""LoRAs: small files that change what a model draws, named by clients and applied to single pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from flux_endpoint.core.errors import CheckpointError, InvalidParameter

MAX_LORAS: Final = 8
MAX_SCALE: Final = 4.0
# URLs among them.
MAX_NAME_CHARS: Final = 1_000
_HASH_CHARS: Final = 64
_HEX: Final = frozenset("0123456789abcdef")
_KEYS: Final = ("path", "scale", "sha256")


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA of a request.

    Attributes:
        path: its name, as the client wrote it.
        scale: how strongly it acts; 0 is not at all.
        sha256: of its file, in hexadecimal digits; empty until the file was looked up.
        is_fetched: whether its file was fetched from elsewhere, so that workers get it from the gateway.
    """

    path: str
    scale: float = 1.0
    sha256: str = ""
    is_fetched: bool = False

    def to_input(self) -> dict[str, Any]:
        """Itself as a JSON value, which `from_input` reads back."""
        fields = {"path": self.path, "scale": self.scale, "sha256": self.sha256}
        return fields | {"is_fetched": True} if self.is_fetched else fields

    @classmethod
    def from_input(cls, fields: Mapping[str, Any]) -> "Lora":
        """Read back what `to_input` wrote.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class FoundLora:
    """A file that a name means.

    Attributes:
        sha256: of the file.
        is_fetched: see `Lora`.
    """

    sha256: str
    is_fetched: bool = False


@dataclass(frozen=True, slots=True)
class SentLora:
    """A LoRA as a client named it, which is elsewhere: nothing of it has been fetched yet.

    Attributes:
        field: what the client calls the entry of the list.
        path: where it is.
        sha256: what its file must be; empty for any.
    """

    field: str
    path: str
    sha256: str = ""


class LoraShelf(Protocol):
    """Where the files of LoRAs are."""

    @property
    def names(self) -> Sequence[str]:
        """What requests may name, those too that cannot be applied."""
        ...

    def find(self, name: str, sha256: str = "") -> FoundLora | None:
        """A file that can be applied.

        Args:
            name: as a client wrote it.
            sha256: what it must be, where several have had that name; empty for the first.

        Returns:
            None for one that is elsewhere, and must be fetched first.

        Raises:
            CheckpointError: there is none of that name, or it cannot be applied; the text says why.
        """
        ...


class NoLoras:
    """A shelf without any; implements `LoraShelf`."""

    names = ()

    def find(self, name: str, sha256: str = "") -> FoundLora | None:
        """See `LoraShelf.find`."""
        raise CheckpointError(f"there is no LoRA '{name}': this endpoint has none")


NO_LORAS: Final = NoLoras()


@dataclass(frozen=True, slots=True)
class LoraList:
    """Which LoRAs act, and how strongly. Implements `input_kinds.Kind`."""

    default: tuple[Lora, ...] = ()

    @property
    def words(self) -> str:
        """See `Kind.words`."""
        return f"at most {MAX_LORAS}, each with a scale from -{MAX_SCALE:g} to {MAX_SCALE:g}"

    def read(self, name: str, fields: Mapping[str, Any]) -> tuple[Lora, ...]:
        """See `Kind.read`; the files are not looked up."""
        value = fields[name]
        if not isinstance(value, list | tuple):
            raise InvalidParameter(name, "must be an array of objects with the key 'path'")
        if len(value) > MAX_LORAS:
            raise InvalidParameter(name, f"must be at most {MAX_LORAS}, got {len(value)}")
        return tuple(one if isinstance(one, Lora) else _read(f"{name}[{i}]", one) for i, one in enumerate(value))

    def schema(self, help: str) -> dict[str, Any]:
        """See `Kind.schema`."""
        path = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "description": "Its name."}
        scale = {"type": ["number", "null"], "minimum": -MAX_SCALE, "maximum": MAX_SCALE, "default": 1.0}
        digits = f"^[0-9a-f]{{{_HASH_CHARS}}}$"
        sha256 = {"type": ["string", "null"], "pattern": digits, "description": "What its file must be."}
        entry = {
            "type": "object",
            "required": ["path"],
            "properties": {"path": path, "scale": scale, "sha256": sha256},
            "additionalProperties": False,
        }
        return {"type": "array", "items": entry, "maxItems": MAX_LORAS, "default": [], "description": help}


def look_up(name: str, asked: Sequence[Lora], shelf: LoraShelf) -> tuple[Lora, ...]:
    """The LoRAs of a request with the hashes of their files, in an order that depends on the files alone.

    Sums in floating point depend on the order, and the same request must draw the same bytes. Those that must be
    fetched first are left without a hash: such a list is no job's yet.

    Args:
        name: of the input.
        asked: as they were read.
        shelf: where the files are.

    Raises:
        InvalidParameter: one has no file that can be applied, or another file than it says, or two have the same.
    """
    found: dict[str, Lora] = {}
    elsewhere: list[Lora] = []
    for index, lora in enumerate(asked):
        try:
            here = shelf.find(lora.path, lora.sha256)
        except CheckpointError as error:
            raise InvalidParameter(f"{name}[{index}].path", f"cannot be used: {error}") from None
        if here is None:
            elsewhere.append(replace(lora, sha256=""))
            continue
        sha256 = here.sha256
        if lora.sha256 not in ("", sha256):
            raise InvalidParameter(f"{name}[{index}].sha256", f"is not that of the file here, which is {sha256}")
        if sha256 in found:
            raise InvalidParameter(f"{name}[{index}].path", f"names the same file as '{found[sha256].path}'")
        found[sha256] = replace(lora, sha256=sha256, is_fetched=here.is_fetched)
    return (*elsewhere, *(found[sha256] for sha256 in sorted(found)))


def _read(name: str, value: object) -> Lora:
    if not isinstance(value, Mapping):
        raise InvalidParameter(name, "must be an object with the key 'path'")
    for key in value:
        if key not in _KEYS:
            raise InvalidParameter(name, f"has a key '{str(key)[:60]}'; known are {', '.join(_KEYS)}")
    path, scale, sha256 = value.get("path"), value.get("scale"), value.get("sha256")
    if not isinstance(path, str) or not path.strip() or len(path) > MAX_NAME_CHARS or not path.isprintable():
        raise InvalidParameter(f"{name}.path", f"must be a name of 1 to {MAX_NAME_CHARS} characters")
    scale = 1.0 if scale is None else scale
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise InvalidParameter(f"{name}.scale", "must be a number")
    # NaN fails every comparison.
    if not -MAX_SCALE <= scale <= MAX_SCALE:
        raise InvalidParameter(f"{name}.scale", f"must be between -{MAX_SCALE:g} and {MAX_SCALE:g}")
    if sha256 is not None and not (isinstance(sha256, str) and len(sha256) == _HASH_CHARS and _HEX.issuperset(sha256)):
        raise InvalidParameter(f"{name}.sha256", f"must be {_HASH_CHARS} hexadecimal digits in lower case")
    return Lora(path, float(scale), sha256 or "")
