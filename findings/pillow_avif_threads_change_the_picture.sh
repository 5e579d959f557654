#!/usr/bin/env bash
# Pillow 13.0.0 (its wheel: libavif 1.4.2 with aom), saving AVIF.
#
# Expected: `max_threads` says how fast a picture is saved; the same pixels, options and library give the same file.
# Seen (CPython 3.11, x86-64): one thread gives another file than two or more, and another picture: values of pixels
# differ by up to 3 of 255 here. Two, three and sixteen threads agree. Left out, `max_threads` is the number of CPUs
# that the process may use, so that a container of one CPU and a machine of many keep different pictures.
#
# We promise the same bytes for the same request (decision 0009), and offer JPEG, PNG and WebP only.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io

from PIL import Image, ImageChops

slope = Image.linear_gradient("L")
picture = Image.merge("RGB", (slope, Image.radial_gradient("L"), slope.rotate(90))).resize((512, 512))


def saved(**options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "AVIF", **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


by_threads = {threads: saved(max_threads=threads) for threads in (1, 2, 3, 16)}
# It is not chance: once more gives the same.
for threads, data in by_threads.items():
    assert saved(max_threads=threads) == data, threads
furthest = {
    threads: max(high for _, high in ImageChops.difference(opened(by_threads[1]), opened(data)).getextrema())
    for threads, data in by_threads.items()
}
print(f"bytes: { {threads: len(data) for threads, data in by_threads.items()} }")
print(f"furthest pixel from the picture of one thread: {furthest}")
if not by_threads[1] != by_threads[2] == by_threads[3] == by_threads[16] or furthest[2] == 0:
    raise SystemExit("changed: the number of threads decides otherwise, or no more")
print("as described")
PY
