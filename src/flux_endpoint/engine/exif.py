"""The EXIF block of a file: what the standard wants in every one, and a comment; each tag of the standard's type."""

from collections.abc import Mapping
from typing import Any, Final

from PIL import ExifTags, TiffTags
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

_MARK: Final = b"Exif\x00\x00"
# Big-endian ("MM"): readers agree on the byte order of the text below in no other. The first directory follows at 8.
_HEAD: Final = b"MM\x00*\x00\x00\x00\x08"
_UNICODE_MARK: Final = b"UNICODE\x00"
_UTF16: Final = "utf-16-be"
_DOTS_PER_INCH: Final = 72  # the standard's own value for "unknown"
_INCHES: Final = 2
_CENTRED: Final = 1
_SRGB: Final = 1
_YCBCR: Final = b"\x01\x02\x03\x00"

Directory = Mapping[int, tuple[int, Any]]


def exif_block(software: str, comment: str, width_px: int, height_px: int) -> bytes:
    """The content of a JPEG's EXIF segment, which holds at most 65,533 bytes.

    Args:
        software: what made the picture, ASCII.
        comment: any text, see `comment_bytes`.
        width_px: of the picture.
        height_px: of the picture.
    """
    details: Directory = {
        Base.ExifVersion: (TiffTags.UNDEFINED, b"0232"),
        Base.ComponentsConfiguration: (TiffTags.UNDEFINED, _YCBCR),
        Base.UserComment: (TiffTags.UNDEFINED, comment_bytes(comment)),
        Base.FlashPixVersion: (TiffTags.UNDEFINED, b"0100"),
        Base.ColorSpace: (TiffTags.SHORT, _SRGB),
        Base.ExifImageWidth: (TiffTags.LONG, width_px),
        Base.ExifImageHeight: (TiffTags.LONG, height_px),
    }
    main: dict[int, tuple[int, Any]] = {
        Base.XResolution: (TiffTags.RATIONAL, IFDRational(_DOTS_PER_INCH)),
        Base.YResolution: (TiffTags.RATIONAL, IFDRational(_DOTS_PER_INCH)),
        Base.ResolutionUnit: (TiffTags.SHORT, _INCHES),
        Base.Software: (TiffTags.ASCII, software),
        Base.YCbCrPositioning: (TiffTags.SHORT, _CENTRED),
        ExifTags.IFD.Exif: (TiffTags.LONG, 0),
    }
    # The length does not depend on the number that says where the second directory is.
    start = len(_HEAD) + len(_written(main, len(_HEAD)))
    main[ExifTags.IFD.Exif] = (TiffTags.LONG, start)
    return _MARK + _HEAD + _written(main, len(_HEAD)) + _written(details, start)


def comment_bytes(text: str) -> bytes:
    """A text as UserComment holds it: the mark for Unicode, then UTF-16."""
    return _UNICODE_MARK + text.encode(_UTF16)


def comment_text(value: bytes) -> str | None:
    """The text `comment_bytes` was made of; None for a comment of another kind."""
    return value.removeprefix(_UNICODE_MARK).decode(_UTF16) if value.startswith(_UNICODE_MARK) else None


def _written(tags: Directory, offset: int) -> bytes:
    """One directory, to lie so many bytes after the block's start."""
    directory = ImageFileDirectory_v2(_HEAD)
    for tag, (kind, value) in tags.items():
        # Left to itself, Pillow makes bytes BYTE.
        directory.tagtype[tag] = kind
        directory[tag] = value
    return directory.tobytes(offset)
