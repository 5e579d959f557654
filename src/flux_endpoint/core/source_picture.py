"""A picture that a client sent to draw from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """One picture to draw from, as this server keeps it: upright, 8 bits a channel, PNG.

    A picture to start from has three channels, a mask has one: white is drawn anew, black stays.

    Attributes:
        key: under which the file is kept, and workers fetch it.
        sha256: of the file, in hexadecimal digits.
        width: pixels.
        height: pixels.
    """

    key: str
    sha256: str
    width: int
    height: int

    def to_input(self) -> dict[str, Any]:
        """As JSON, which `from_input` reads back."""
        return asdict(self)

    @classmethod
    def from_input(cls, fields: Mapping[str, Any] | None) -> "SourcePicture | None":
        """Read back what `to_input` wrote, or that there is none.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return None if fields is None else cls(**fields)


def steps_left(steps: int, strength: float) -> int:
    """How many of the last steps are drawn of a picture that starts from another: at least one.

    As diffusers counts them for FLUX, down to the last bit of a product such as 50 x 0.14.

    Args:
        steps: from noise alone.
        strength: 0 to 1.
    """
    return max(1, steps - int(max(steps - min(steps * strength, steps), 0)))
