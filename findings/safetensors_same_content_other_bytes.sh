#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors and the same metadata, written twice.
#
# Expected: the same bytes. The format is a header of JSON and the numbers; the library sorts the tensors by itself, so
# that the order in which they are handed in makes no difference, and the hash of a file names its content.
# Seen (CPython 3.11): two or more entries of metadata stand in the header in an order drawn by lot at each call, also
# within one process. Most LoRAs have dozens (kohya's ss_*), so each time one is saved, converted or copied through the
# library, it gets another hash, and a store of files by hash, a cache, or a lock file takes it for another one. With one
# entry ({"format": "pt"}, what transformers and diffusers write) or none the bytes are the same, which is why tests
# seldom show it.
#
# The latents of our drafts are a file of this format with four entries: we put its header in order
# (`engine/latents_file.py`). LoRAs are known by the hash of the file as it is, and never written anew.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import hashlib

import numpy
from safetensors.numpy import load, save

down, up = numpy.ones((2, 4), numpy.float32), numpy.ones((4, 2), numpy.float32)


def hashes(metadata: dict[str, str]) -> set[str]:
    """Of 100 files, half of them with the tensors the other way round."""
    files = [save({"up": up, "down": down}, metadata) for _ in range(50)]
    files += [save({"down": down, "up": up}, metadata) for _ in range(50)]
    assert all(numpy.array_equal(load(file)["up"], up) for file in files)
    assert len({len(file) for file in files}) == 1
    return {hashlib.sha256(file).hexdigest() for file in files}


one = hashes({"format": "pt"})
two = hashes({"ss_network_dim": "2", "ss_network_alpha": "2"})
four = hashes({"ss_network_dim": "2", "ss_network_alpha": "2", "ss_base_model_version": "flux1", "format": "pt"})
print(f"hashes of 100 equal files: {len(one)} with one entry, {len(two)} with two, {len(four)} with four")
if len(one) != 1 or len(two) != 2 or len(four) < 10:
    raise SystemExit("changed: the order of the entries is settled")
print("as described")
PY
