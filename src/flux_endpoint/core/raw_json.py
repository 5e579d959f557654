"""JSON in and out, and values that stay text because taking them apart would hold everybody else up."""

import json
import math
import secrets
import sys
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from flux_endpoint.core.errors import InvalidRequest

# What is nested deeper could be read here, and then be too deep for a writer or checker further down.
_MAX_DEPTH: Final = 100
# At worst (lists in lists) so much takes 25 ms to read, and ten times that takes as many times as long.
BIG_CHARS: Final = 128 * 2**10
_SEPARATORS: Final = (",", ":")
_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=_SEPARATORS)
# Stands where a text is to be put. No client can know it.
_MARK: Final = secrets.token_hex()


@dataclass(frozen=True, slots=True)
class RawJson:
    """A JSON value as its text, which is ASCII and valid; long, as a rule."""

    text: str

    @property
    def value(self) -> Any:
        """Taken apart, which takes as long as the text is long."""
        return json.loads(self.text)


def write_json(value: Any) -> str:
    """A value as JSON, in ASCII; the texts of `RawJson` in it are put in as they are.

    Raises:
        ValueError: it holds NaN or Infinity, which are no JSON.
        TypeError: it holds what is no JSON at all.
    """
    if isinstance(value, RawJson):
        return value.text
    try:
        return _ENCODER.encode(value)
    except TypeError:
        pass
    texts: list[str] = []

    def keep(part: object) -> str:
        if not isinstance(part, RawJson):
            raise TypeError(f"{type(part).__name__} is no JSON")
        texts.append(part.text)
        return _MARK

    whole = json.dumps(value, default=keep, allow_nan=False, separators=_SEPARATORS)
    pieces = whole.split(f'"{_MARK}"')
    return "".join(piece for pair in zip(pieces, [*texts, ""], strict=True) for piece in pair)


def read_json(text: str) -> Any:
    """A value that `write_json` wrote; as `RawJson` when it is big."""
    return RawJson(text) if len(text) > BIG_CHARS else json.loads(text)


def raw_if_big(value: Any) -> Any:
    """A value, as `RawJson` when its text is big. Takes as long as the value is large."""
    text = write_json(value)
    return RawJson(text) if len(text) > BIG_CHARS else value


def decode_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidRequest: it is not JSON, not UTF-8, or nested deeper than can be read.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
        # Most bodies have fewer brackets than may be nested, and need no look inside.
        if data.count(b"[") + data.count(b"{") > _MAX_DEPTH and _is_deeper_than(value, _MAX_DEPTH):
            raise RecursionError
        return value
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("Invalid request: the body is not valid JSON") from None
    except ValueError:
        limit = sys.get_int_max_str_digits()
        raise InvalidRequest(f"Invalid request: the body contains a number of more than {limit} digits") from None


def _is_deeper_than(value: Any, levels: int) -> bool:
    containers = [value]
    for _ in range(levels):
        children = (child for one in containers for child in (one.values() if isinstance(one, dict) else one))
        containers = [child for child in children if isinstance(child, dict | list)]
        if not containers:
            return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    # Python's own extension of JSON: NaN, Infinity, -Infinity.
    raise InvalidRequest(f"Invalid request: the body is not valid JSON: it contains {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidRequest(f"Invalid request: the body contains a number that is too large: {text[:40]}")
    return number
