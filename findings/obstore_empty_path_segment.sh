#!/usr/bin/env bash
# obstore 0.12.1 (Python binding of the Rust crate object_store), signing and naming objects.
#
# Expected: a path with an empty, "." or ".." segment is refused with the library's own error (obstore.exceptions.BaseError,
# whose documented subclasses are what its functions raise), or with ValueError.
# Seen: TypeError("Expected string path or sequence of string paths."), although the path is a string. Code that catches
# BaseError and ValueError around a call with a caller's path lets it through. A segment of three dots, and "..x", are fine.
#
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet obstore==0.12.1
"$folder/venv/bin/python" - <<'PY'
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

SHORTLY = timedelta(minutes=5)

store = S3Store("pictures", region="us-east-1", access_key_id="id", secret_access_key="secret")
assert not issubclass(TypeError, BaseError)
for path in ("2026//lakes.png", "./lakes.png", "2026/../lakes.png"):
    try:
        obstore.sign(store, "GET", path, SHORTLY)
    except TypeError as error:
        print(f"{path!r}: TypeError: {error}")
        assert "Expected string path" in str(error)
    else:
        raise SystemExit(f"{path!r} was signed")
for path in (".../lakes.png", "..x/lakes.png"):
    assert "lakes.png" in obstore.sign(store, "GET", path, SHORTLY)
print("as described")
PY
