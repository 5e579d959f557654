#!/usr/bin/env bash
# sd-parsers 0.6 with Pillow 13.0.0: parameters of JPEG and WebP files, one file after the other.
#
# Expected: what is read of a file depends on that file.
# Seen (CPython 3.11): its reader of UserComment keeps the last comment under `id(image)`, the address of the picture's
# object, which CPython gives to the next picture as soon as the first one is gone. So in a loop over files some get the
# prompt of an earlier file. Pictures that are kept alive are read right.
#
# Our tests keep what they have opened.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sd-parsers==0.6 pillow==13.0.0 piexif==1.1.3
"$folder/venv/bin/python" - <<'PY'
import io

import piexif
from piexif.helper import UserComment
from PIL import Image
from sd_parsers import ParserManager


def picture(number, kind):
    text = f"picture {number}\nSteps: 4, Sampler: Euler, CFG scale: 1, Seed: {number}, Size: 16x16"
    exif = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: UserComment.dump(text, "unicode")}})
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind, exif=exif)
    return file


def open_and_read(file):
    with Image.open(file) as image:
        return ParserManager().parse(image).full_prompt


wrong = 0
right = [f"picture {number}" for number in range(200)]
for kind in ("JPEG", "WEBP"):
    files = [picture(number, kind) for number in range(200)]
    for read in (open_and_read, lambda file: ParserManager().parse(file).full_prompt):
        told = [read(file) for file in files]
        mixed = [(number, text) for number, text in enumerate(told) if text != right[number]]
        wrong += len(mixed)
        print(f"{kind}: {len(mixed)} of 200 read as another file, such as {mixed[:2]}")
    alive = [Image.open(file) for file in files]
    assert [ParserManager().parse(image).full_prompt for image in alive] == right
if not wrong:
    raise SystemExit("changed: each file has its own prompt")
print("as described")
PY
