"""Pictures that clients send to draw from: as they were sent, and as they are kept."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from flux_endpoint.core.job import TTL_MS
from flux_endpoint.core.lora import SentLora
from flux_endpoint.core.periods import MS_PER_DAY

# Of a file as it was sent.
MAX_SOURCE_BYTES: Final = 20 * 2**20
# How long one is kept, at least. No job can need it for longer: a batch may be a draft for a week, and its jobs wait
# for another.
SOURCE_LIFE_MS: Final = 2 * TTL_MS[1] + MS_PER_DAY
# The media type of a `data:` URL whose transparent parts are what is drawn anew. Without any, white is.
MASK_BY_TRANSPARENCY: Final = "application/octet-stream;drawn=transparent"
# The inputs that are pictures, by their names in the table of inputs; a mask after the picture that it is for.
PICTURES: Final = ("image", "mask", "control_image", "image_prompt")


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
        """Itself as a JSON value, which `from_input` reads back."""
        return asdict(self)

    @classmethod
    def from_input(cls, fields: Mapping[str, Any] | None) -> "SourcePicture | None":
        """Read back what `to_input` wrote, or that there is none.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return None if fields is None else cls(**fields)


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture as a client named it: nothing has been fetched or decoded yet.

    Attributes:
        field: what the client calls it.
        where: a `data:` URL with the file in base64, or an http(s) URL.
    """

    field: str
    where: str


@dataclass(frozen=True, slots=True)
class SentFiles:
    """What is needed to accept a request once more, with its pictures as they are kept and its LoRAs fetched.

    Attributes:
        fields: as they were sent.
        any_size: see `EndpointSpec.accept`.
        pictures: by the names of the table of inputs.
        loras: those that are elsewhere.
    """

    fields: Mapping[str, Any]
    any_size: bool
    pictures: Mapping[str, SentPicture]
    loras: tuple[SentLora, ...] = ()


def steps_left(steps: int, strength: float) -> int:
    """How many of the last steps are drawn of a picture that starts from another: at least one.

    As diffusers counts them for FLUX, rounded up, down to the last bit of a product such as 25 x 0.56
    (findings/diffusers_flux_rounds_strength_up.sh).

    Args:
        steps: from noise alone.
        strength: 0 to 1.
    """
    return max(1, steps - int(max(steps - min(steps * strength, steps), 0)))
