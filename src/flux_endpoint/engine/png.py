"""What a PNG file is made of."""

import struct
import zlib
from typing import Final

from flux_endpoint.core.marks import INFOTEXT_KEYWORD, XMP_KEYWORD, Marks

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk: length, four letters, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def png_header(width_px: int, height_px: int, bit_depth: int, colour_type: int) -> bytes:
    """The first chunk; not interlaced.

    Args:
        width_px: of the picture.
        height_px: of the picture.
        bit_depth: of one sample.
        colour_type: 2 is RGB, 3 is a palette.
    """
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, bit_depth, colour_type, 0, 0, 0))


def png_marks(marks: Marks) -> bytes:
    """The chunks that hold the marks of a picture, to stand before its pixels."""
    return _text_chunk(INFOTEXT_KEYWORD, marks.text) + _utf8_chunk(XMP_KEYWORD, marks.xmp)


def _text_chunk(keyword: str, text: str) -> bytes:
    """In the older kind of chunk where its characters are enough: some programs read no other."""
    try:
        return png_chunk(b"tEXt", f"{keyword}\0{text}".encode("latin-1"))
    except UnicodeEncodeError:
        return _utf8_chunk(keyword, text.encode())


def _utf8_chunk(keyword: str, text: bytes) -> bytes:
    # Keyword, end, not compressed, method, no language, no translated keyword, text.
    return png_chunk(b"iTXt", f"{keyword}\0\0\0\0\0".encode() + text)
