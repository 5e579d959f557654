"""Reads the texts in a PNG, without its pixels."""

import zlib
from collections.abc import Iterator
from typing import Final

_SIGNATURE_BYTES: Final = 8
_HEAD_BYTES: Final = 8
_CRC_BYTES: Final = 4
# Far more than any program writes; what is packed could be endless.
_MAX_TEXT_BYTES: Final = 2**20


def texts_in(data: bytes) -> dict[str, str]:
    """Keywords and values of all text chunks; the first of a keyword counts.

    Args:
        data: a PNG; other files have no such chunks.
    """
    texts: dict[str, str] = {}
    for kind, body in _chunks(data):
        name, _, rest = body.partition(b"\0")
        value = _READERS[kind](rest) if kind in _READERS else None
        if value is not None:
            texts.setdefault(name.decode("latin-1"), value)
    return texts


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _SIGNATURE_BYTES
    while at + _HEAD_BYTES <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        start = at + _HEAD_BYTES
        yield data[at + 4 : start], data[start : start + length]
        at = start + length + _CRC_BYTES


def _plain(rest: bytes) -> str:
    return rest.decode("latin-1")


def _packed(rest: bytes) -> str | None:
    # After one byte that names the way of packing; there is one.
    unpacked = _unpacked(rest[1:])
    return None if unpacked is None else unpacked.decode("latin-1")


def _international(rest: bytes) -> str | None:
    """After the keyword: whether it is packed, how, the language, the keyword in that language, the text."""
    parts = rest[2:].split(b"\0", 2)
    if len(parts) != 3:
        return None
    text = _unpacked(parts[2]) if rest[:1] == b"\x01" else parts[2]
    return None if text is None else text.decode("utf-8", "replace")


def _unpacked(packed: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        return unpacker.decompress(packed, _MAX_TEXT_BYTES)
    except zlib.error:
        return None


_READERS: Final = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}
