"""What a PNG file is made of."""

import struct
import zlib
from typing import Final

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
