"""Pictures to draw from, as files of this machine."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.source_picture import PICTURES, SourcePicture
from flux_endpoint.images.decoding import decode_sent


def with_files(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Inputs whose pictures are names of files, as `parse_input` takes them, and the pictures by their hashes.

    Raises:
        InvalidParameter: a file cannot be read, or is no picture.
    """
    read, sources = dict(fields), {}
    # A mask after the picture that it is for.
    for name in PICTURES:
        if not fields.get(name):
            continue
        image = read["image"] if name == "mask" and fields.get("image") else None
        try:
            data = Path(fields[name]).read_bytes()
        except OSError as error:
            raise InvalidParameter(name, f"cannot be read: {fields[name]}: {error.strerror}") from None
        decoded = decode_sent(data, image and (image.width, image.height))
        if isinstance(decoded, str):
            raise InvalidParameter(name, decoded)
        digest = hashlib.sha256(decoded.data).hexdigest()
        sources[digest] = decoded.data
        read[name] = SourcePicture("", digest, decoded.width, decoded.height)
    return read, sources
