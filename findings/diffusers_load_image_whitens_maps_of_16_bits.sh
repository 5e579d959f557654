#!/usr/bin/env bash
# diffusers 0.42.1 with Pillow 13.0.0: load_image of a grey PNG of 16 bits, the usual form of a depth map.
#
# Expected: its picture in 8 bits, as any viewer shows it, or an error. A PNG of 16 bits in colour is read so: of each
# number the upper 8 bits.
# Seen (CPython 3.11): everything brighter than 255 of 65535 is white, which is all but the darkest 256th part. load_image
# ends with convert("RGB"), and Pillow cuts the numbers of its mode I;16 at 255, where it divides those of colour.
# No error and no warning: FLUX.1 Depth or a ControlNet then draws along a plain white map, which says that all is near, and
# the picture looks as if the map were ignored. The same map saved with 8 bits is right.
#
# We divide such numbers by 257 (tests/unit/test_decoding.py::test_sixteen_bits_become_eight).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from diffusers.utils import load_image

GREY, COLOUR = 0, 2
# 256 steps from black to white, in 16 bits: 0, 257, 514, ... 65535.
ramp = np.tile(np.arange(256, dtype=">u2") * 257, (8, 1))


def png(file: Path, numbers: np.ndarray, kind: int) -> str:
    """A PNG file made by hand, so that nothing but the reader is asked."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.tobytes() for row in numbers)
    header = struct.pack(">IIBBBBB", numbers.shape[1], len(numbers), numbers.itemsize * 8, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return str(file)


folder = Path(sys.argv[1])
files = {
    "grey, 8 bits": png(folder / "8.png", (ramp >> 8).astype("u1"), GREY),
    "colour, 16 bits": png(folder / "colour.png", np.repeat(ramp[..., None], 3, axis=2), COLOUR),
    "grey, 16 bits": png(folder / "16.png", ramp, GREY),
}
found = {}
for name, file in files.items():
    row = np.asarray(load_image(file))[0, :, 0]
    found[name] = row.tolist()
    print(f"{name}: {len(np.unique(row))} values, {(row == 255).mean():.1%} white")
right, white = list(range(256)), [0] + [255] * 255
if found != {"grey, 8 bits": right, "colour, 16 bits": right, "grey, 16 bits": white}:
    raise SystemExit("changed: grey of 16 bits is no longer cut at 255")
print("as described")
PY
