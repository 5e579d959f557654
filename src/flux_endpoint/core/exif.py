"""EXIF of a picture's file: what the standard wants in every one, and a comment; the comment read back."""

import struct
from collections.abc import Iterator, Mapping
from typing import Final

BLOCK_MARK: Final = b"Exif\x00\x00"
# Big-endian ("MM"): readers agree on the byte order of the text below in no other. The first directory follows at 8.
_HEAD: Final = b"MM\x00*\x00\x00\x00\x08"
_BYTE_ORDERS: Final = {b"MM\x00*": ">", b"II*\x00": "<"}
_UNICODE_MARK: Final = b"UNICODE\x00"
_UTF16: Final = {">": "utf-16-be", "<": "utf-16-le"}

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_SIZES: Final = {_ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1}
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _SOFTWARE, _YCBCR_POSITIONING = 0x011A, 0x011B, 0x0128, 0x0131, 0x0213
_EXIF_DIRECTORY, _EXIF_VERSION, _COMPONENTS, _USER_COMMENT, _FLASHPIX = 0x8769, 0x9000, 0x9101, 0x9286, 0xA000
_COLOUR_SPACE, _WIDTH, _HEIGHT = 0xA001, 0xA002, 0xA003

_DOTS_PER_INCH: Final = struct.pack(">II", 72, 1)  # the standard's own value for "unknown"
_INCHES: Final = struct.pack(">H", 2)
_CENTRED: Final = struct.pack(">H", 1)
_SRGB: Final = struct.pack(">H", 1)
_YCBCR: Final = b"\x01\x02\x03\x00"

_ENTRY: Final = 12
# Type and value by tag, in rising order of tags as the standard wants it.
Directory = Mapping[int, tuple[int, bytes]]


def exif_block(software: str, comment: str, width_px: int, height_px: int) -> bytes:
    """The content of a JPEG's EXIF segment, which holds at most 65,533 bytes.

    Args:
        software: what made the picture, ASCII.
        comment: any text, see `comment_bytes`.
        width_px: of the picture.
        height_px: of the picture.
    """
    details: Directory = {
        _EXIF_VERSION: (_UNDEFINED, b"0232"),
        _COMPONENTS: (_UNDEFINED, _YCBCR),
        _USER_COMMENT: (_UNDEFINED, comment_bytes(comment)),
        _FLASHPIX: (_UNDEFINED, b"0100"),
        _COLOUR_SPACE: (_SHORT, _SRGB),
        _WIDTH: (_LONG, struct.pack(">I", width_px)),
        _HEIGHT: (_LONG, struct.pack(">I", height_px)),
    }
    main: dict[int, tuple[int, bytes]] = {
        _X_RESOLUTION: (_RATIONAL, _DOTS_PER_INCH),
        _Y_RESOLUTION: (_RATIONAL, _DOTS_PER_INCH),
        _RESOLUTION_UNIT: (_SHORT, _INCHES),
        _SOFTWARE: (_ASCII, software.encode("ascii", "replace") + b"\0"),
        _YCBCR_POSITIONING: (_SHORT, _CENTRED),
        _EXIF_DIRECTORY: (_LONG, bytes(4)),
    }
    # The length does not depend on the number that says where the second directory is.
    start = len(_HEAD) + len(_written(main, len(_HEAD)))
    main[_EXIF_DIRECTORY] = (_LONG, struct.pack(">I", start))
    return BLOCK_MARK + _HEAD + _written(main, len(_HEAD)) + _written(details, start)


def comment_bytes(text: str) -> bytes:
    """A text as UserComment holds it: the mark for Unicode, then UTF-16 in the byte order of the block."""
    return _UNICODE_MARK + text.encode(_UTF16[">"])


def comment_in(data: bytes) -> str | None:
    """The text in a file's UserComment; None where there is none in Unicode.

    Args:
        data: a file of any kind: formats put the block at different places, and none of them changes its bytes.
    """
    for block, order in _blocks(data):
        try:
            (first,) = struct.unpack_from(f"{order}I", block, 4)
            details = _value(block, first, _EXIF_DIRECTORY, order)
            comment = details and _value(block, struct.unpack(f"{order}I", details)[0], _USER_COMMENT, order)
        except struct.error:
            continue  # pixels that happen to look like the head of a block
        if comment and comment.startswith(_UNICODE_MARK):
            return comment.removeprefix(_UNICODE_MARK).decode(_UTF16[order], "replace")
    return None


def _blocks(data: bytes) -> Iterator[tuple[memoryview, str]]:
    for head, order in _BYTE_ORDERS.items():
        at = data.find(head)
        while at >= 0:
            yield memoryview(data)[at:], order
            at = data.find(head, at + 1)


def _value(block: memoryview, directory: int, tag: int, order: str) -> bytes | None:
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    for entry in range(directory + 2, directory + 2 + count * _ENTRY, _ENTRY):
        found, kind, values = struct.unpack_from(f"{order}HHI", block, entry)
        if found == tag:
            size = values * _SIZES.get(kind, 1)
            start = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", block, entry + 8)[0]
            return bytes(block[start : start + size])
    return None


def _written(tags: Directory, offset: int) -> bytes:
    """One directory, to lie so many bytes after the block's start."""
    entries, values = b"", b""
    start = offset + 2 + len(tags) * _ENTRY + 4
    for tag, (kind, value) in tags.items():
        entries += struct.pack(">HHI", tag, kind, len(value) // _SIZES[kind])
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(">I", start + len(values))
            values += value + bytes(len(value) % 2)  # values begin at even places
    return struct.pack(">H", len(tags)) + entries + bytes(4) + values
