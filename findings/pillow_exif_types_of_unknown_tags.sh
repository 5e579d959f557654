#!/usr/bin/env bash
# Pillow 13.0.0, read with piexif 1.1.3: EXIF of a JPEG opened and saved again.
#
# Expected: tags that nobody touched keep the type they had in the file. The EXIF standard says UNDEFINED (7) for
# UserComment and FileSource, and so said the file.
# Seen (CPython 3.11): tags without a type in Pillow's own table (PIL.TiffTags) are written as BYTE (1), as soon as
# the block is written anew: `picture.save(..., exif=picture.getexif())` is enough. ExifVersion, which the table
# knows, stays UNDEFINED. piexif then hands out UserComment as a tuple
# of numbers, and its own `helper.UserComment.load` refuses it, though the bytes are still right.
#
# We write the block of our files by hand, with the standard's type for each tag.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 piexif==1.1.3
"$folder/venv/bin/python" - <<'PY'
import io

import piexif
from piexif.helper import UserComment
from PIL import Image

TAGS = piexif.ExifIFD
written = {
    TAGS.ExifVersion: b"0232",
    TAGS.UserComment: UserComment.dump("a quiet lake"),
    TAGS.FileSource: b"\x03",
}

first = io.BytesIO()
Image.new("RGB", (16, 16)).save(first, "JPEG", exif=piexif.dump({"Exif": written}))
before = piexif.load(first.getvalue())["Exif"]
assert before == written, before
assert UserComment.load(before[TAGS.UserComment]) == "a quiet lake"

picture = Image.open(first)
second = io.BytesIO()
picture.save(second, "JPEG", exif=picture.getexif())
after = piexif.load(second.getvalue())["Exif"]
for name in ("ExifVersion", "UserComment", "FileSource"):
    tag = getattr(TAGS, name)
    print(f"{name}: {before[tag]!r}, saved again: {after[tag]!r}")
if after[TAGS.UserComment] != tuple(written[TAGS.UserComment]) or after[TAGS.FileSource] != 3:
    raise SystemExit("changed: UserComment and FileSource are no longer BYTE")
assert after[TAGS.ExifVersion] == b"0232", after
try:
    UserComment.load(after[TAGS.UserComment])
except ValueError as error:
    print(f"piexif.helper.UserComment.load: ValueError: {error}")
else:
    raise SystemExit("changed: piexif reads a UserComment of type BYTE")
print("as described")
PY
