"""Picture formats and names of stored pictures. Encoders are the rows of the same name in `engine/encode.py`."""

import re
import secrets
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One row.

    Attributes:
        name: on the wire.
        extension: of our files, without the dot.
        media_type: MIME type.
        magic: what every such file holds at some offsets, as (offset, bytes).
        aliases: endings besides `name` that people give such files.
    """

    name: str
    extension: str
    media_type: str
    magic: tuple[tuple[int, bytes], ...]
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def is_in(self, data: bytes) -> bool:
        """Whether a file begins like one of this format; nothing is decoded."""
        return all(data.startswith(expected, offset) for offset, expected in self.magic)


JPEG: Final = ImageFormat("jpeg", "jpg", "image/jpeg", ((0, b"\xff\xd8\xff"),), aliases=("jpg",))
PNG: Final = ImageFormat("png", "png", "image/png", ((0, b"\x89PNG\r\n\x1a\n"),))
WEBP: Final = ImageFormat("webp", "webp", "image/webp", ((0, b"RIFF"), (8, b"WEBP")))

# What a request gets that names none.
DEFAULT_FORMAT: Final = JPEG
# Of pictures that clients send, as they are kept.
SOURCE_FORMAT: Final = PNG
IMAGE_FORMATS: Final[dict[str, ImageFormat]] = {row.name: row for row in (JPEG, PNG, WEBP)}

# 32 bytes: as hard to guess as the key of a cipher.
_KEY_BYTES: Final = 32
# Of 2^42 other names one begins so too: it would be kept for some days longer.
_SOURCE: Final = "source-"
# The ending of latents, which no picture has.
_LATENTS: Final = "latents"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{20,64}\.([a-z0-9]+)")


def format_of(data: bytes) -> ImageFormat | None:
    """The format of a file, by its first bytes; None for none of the table."""
    return next((row for row in IMAGE_FORMATS.values() if row.is_in(data)), None)


def format_ending_in(ending: str) -> ImageFormat | None:
    """The format that people mean by the ending of a file's name, in lower case and without the dot."""
    return next((row for row in IMAGE_FORMATS.values() if ending in (row.name, *row.aliases)), None)


def either(words: list[str]) -> str:
    """The words of a choice as a sentence has them: `a`, `a or b`, `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def new_image_key(extension: str) -> str:
    """The name of stored picture bytes. Whoever holds it may see the picture, so it cannot be guessed.

    Args:
        extension: of its format.
    """
    return f"{secrets.token_urlsafe(_KEY_BYTES)}.{extension}"


def new_source_key() -> str:
    """The name of a stored picture that a client sent: also one that `new_image_key` makes."""
    return f"{_SOURCE}{new_image_key(SOURCE_FORMAT.extension)}"


def new_latents_key() -> str:
    """The name of the stored latents of a draft: none of a picture, and as hard to guess."""
    return new_image_key(_LATENTS)


def is_kept_key(name: str) -> bool:
    """Whether `name` has the form of what we keep: of a picture, or of latents."""
    found = _KEY.fullmatch(name)
    return found is not None and found[1] in (_LATENTS, *(row.extension for row in IMAGE_FORMATS.values()))


def is_source_key(name: str) -> bool:
    """Whether `name` is one of `new_source_key`."""
    return name.startswith(_SOURCE)


def format_of_image_key(name: str) -> ImageFormat | None:
    """The format of the picture of that name; None for what `new_image_key` makes no names like."""
    found = _KEY.fullmatch(name)
    return found and next((row for row in IMAGE_FORMATS.values() if row.extension == found[1]), None)


def is_image_key(name: str) -> bool:
    """Whether `name` has the form of `new_image_key`; everything else is refused before it reaches a disk."""
    return format_of_image_key(name) is not None
