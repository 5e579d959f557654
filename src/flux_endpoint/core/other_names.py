"""The table of other names: what clients of other servers call inputs, and what is said of what is not heeded.

Every dialect reads its clients' fields through it, so that nothing is ignored in silence.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.input_kinds import JsonSchema
from flux_endpoint.core.inputs import INPUTS, or_null
from flux_endpoint.core.shapes import AUTO, shape_of, sides_of, size_of

# In the table of inputs: what is sent under these names alone needs no look here.
INPUT_NAMES: Final = frozenset(row.name for row in INPUTS)
_ALIASES: Final[Mapping[str, str]] = {alias: row.name for row in INPUTS for alias in row.aliases}
_SIZE: Final = "size"
_SHAPE: Final = "aspect_ratio"
# Replicate's two LoRAs, and the scale of each.
_LORA_SCALES: Final = {"lora_weights": "lora_scale", "extra_lora": "extra_lora_scale"}
# What models elsewhere do and FLUX here does not, and with which values that makes no difference.
_WITHOUT_EFFECT: Final[Mapping[str, tuple[object, ...]]] = {
    "quality": (AUTO, "standard"),
    "background": (AUTO, "opaque"),
    "style": (),
    "output_compression": (100,),
    "output_quality": (100,),
    "enable_safety_checker": (False,),
    "disable_safety_checker": (True,),
    "safety_tolerance": (),
    "prompt_upsampling": (False,),
    "go_fast": (False,),
}
# Read by the programs that send them, or by people: nothing is expected of a server.
_FOR_OTHERS: Final = frozenset(("maxPollAttempts", "pollIntervalMillis", "user", "safety_identifier", "moderation"))
_NAMES: Final = (*INPUT_NAMES, *_ALIASES, *_LORA_SCALES, *_LORA_SCALES.values(), _SIZE, _SHAPE)
# Of what is not known; who sends more has sent something else.
_MAX_TOLD: Final = 10
_MAX_NAME_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class HeardInput:
    """A client's fields in the words of the table of inputs.

    Attributes:
        inputs: by our names.
        sent_as: the names under which they came, where these are others.
        warnings: what is not heeded, a sentence each.
        beside: our name and the value of what came under another name, where something else has said it.
    """

    inputs: Mapping[str, Any]
    sent_as: Mapping[str, str]
    warnings: tuple[str, ...]
    beside: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    def in_their_words(self, error: InvalidParameter) -> InvalidParameter:
        """The same error, of the field that was sent."""
        # `loras[0].path` is a field within one that was sent.
        name, bracket, rest = error.field.partition("[")
        sent_as = self.sent_as.get(name, name)
        within = bracket + rest if sent_as not in _LORA_SCALES else ""
        return InvalidParameter(sent_as + within, error.problem)


def heard(fields: Mapping[str, Any]) -> HeardInput:
    """What a client's fields mean. Null counts as absent.

    Our own names win over others, width and height over a size, and a size over a shape.

    Raises:
        InvalidParameter: a size or a shape is none.
    """
    sent = {name: value for name, value in fields.items() if value is not None}
    # A prompt that is null is told as such.
    inputs = {name: fields[name] for name in INPUT_NAMES & fields.keys()}
    sent_as: dict[str, str] = {}
    warnings: list[str] = []

    def put(name: str, meant: Mapping[str, Any]) -> None:
        """Take what a field means where nothing else has said it; else say that it does not count."""
        taken = {one: value for one, value in meant.items() if inputs.get(one) is None}
        inputs.update(taken)
        sent_as.update(dict.fromkeys(taken, name))
        if others := [sent_as.get(one, one) for one, value in meant.items() if inputs[one] != value]:
            warnings.append(f"{name} has no effect beside {' and '.join(dict.fromkeys(others))}")

    beside: dict[str, tuple[str, Any]] = {}
    for alias, name in _ALIASES.items():
        if alias in sent:
            put(alias, {name: sent[alias]})
            if sent_as.get(name) != alias:
                beside[alias] = name, sent[alias]
    if loras := [
        {"path": sent[name], "scale": sent.get(scale)} for name, scale in _LORA_SCALES.items() if name in sent
    ]:
        put(next(name for name in _LORA_SCALES if name in sent), {"loras": loras})
    warnings += (
        f"{scale} has no effect without {name}"
        for name, scale in _LORA_SCALES.items()
        if scale in sent and name not in sent
    )
    if _SIZE in sent:
        put(_SIZE, size_of(_SIZE, sent[_SIZE]))
    if _SHAPE in sent and not _has_shape(inputs, shape_of(sent[_SHAPE])):
        if inputs.get("width") is None and inputs.get("height") is None:
            put(_SHAPE, dict(zip(("width", "height"), sides_of(sent[_SHAPE]), strict=True)))
        else:
            warnings.append(f"{_SHAPE} has no effect beside {sent_as.get('width', 'width and height')}")
    warnings += (
        f"{name} has no effect on FLUX"
        for name, harmless in _WITHOUT_EFFECT.items()
        if name in sent and sent[name] not in harmless
    )
    warnings += unknown(sent, (*_NAMES, *_WITHOUT_EFFECT, *_FOR_OTHERS))
    return HeardInput(inputs, sent_as, tuple(warnings), beside)


def unknown(fields: Mapping[str, Any], known: Collection[str], where: str = "") -> tuple[str, ...]:
    """A sentence for each field of an unknown name, with the nearest one that is known; null counts as absent.

    Args:
        fields: as they were sent.
        known: the names that are.
        where: what stands before a name, such as `policy.`.
    """
    strange = [name for name, value in fields.items() if value is not None and name not in known]
    told = [f"{where}{printable(name)}: {_advice(name, known)}" for name in islice(strange, _MAX_TOLD)]
    more = len(strange) - _MAX_TOLD
    return (*told, f"{more} more fields are not known here") if more > 0 else tuple(told)


def other_schemas(properties: Mapping[str, JsonSchema], sides: str) -> dict[str, JsonSchema]:
    """JSON schemas of what is taken beside the inputs.

    Args:
        properties: those of the inputs.
        sides: a regular expression of a size.
    """
    aliases = {alias: or_null(properties[name]) for alias, name in _ALIASES.items() if name in properties}
    ratios = ["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3"]
    size = {
        "type": "string",
        "pattern": f"^({AUTO}|{sides}[x*]{sides})$",
        "description": "Width and height in pixels: `1024x768` or `1024*768`, or `auto`.",
    }
    shape = {"type": "string", "enum": ratios, "description": "Of a picture of about a megapixel, such as `16:9`."}
    return aliases | {_SIZE: or_null(size), _SHAPE: or_null(shape)}


def _has_shape(inputs: Mapping[str, Any], shape: tuple[int, int]) -> bool:
    width, height = inputs.get("width"), inputs.get("height")
    return type(width) is int and type(height) is int and width * shape[1] == height * shape[0]


def _advice(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:_MAX_NAME_CHARS], known, 1)
    return f"did you mean {near[0]}?" if near else "not known here"


def printable(name: str) -> str:
    """A name that a client chose, as a sentence or a header can hold it: short, and without control characters."""
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown if len(shown) <= _MAX_NAME_CHARS else f"{shown[:_MAX_NAME_CHARS]}..."
