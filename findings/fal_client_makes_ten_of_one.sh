#!/usr/bin/env bash
# fal-client 1.0.3 (Python): run() and submit() where the answer is lost, as when a server or a proxy is restarted after it
# has taken the request.
#
# Expected: a POST that costs money is sent once, or with a name by which the server knows it again (Idempotency-Key), or at
# least as a repeat (x-stainless-retry-count in OpenAI's client); it fails with the error of the connection.
# Seen (CPython 3.11, httpx 0.28.1): it is sent ten times, with waits of 0.1 s that double, byte for byte alike: each
# time the server has read all of it, so one call makes ten jobs, nine of which nobody will ever ask for. No argument says how
# often, no docstring speaks of it, and it is logged at level DEBUG alone. start_timeout ends it for a
# timeout, and not for a connection that is closed.
#
# Our sync route cancels what its client no longer waits for, at no charge
# (tests/api/test_fal.py::test_a_client_that_hangs_up_cancels_its_pictures); requests in the queue are drawn, each of
# them, and docs/guides/fal.md says so and what to do.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fal-client==1.0.3 httpx==0.28.1 trustme==1.2.1
"$folder/venv/bin/python" - "$folder" <<'PY'
import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

import trustme

certificate, tls = Path(sys.argv[1], "authority.pem"), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
authority = trustme.CA()
authority.cert_pem.write_to_path(certificate)
authority.issue_cert("localhost").configure_cert(tls)
listener = socket.create_server(("127.0.0.1", 0))
host = f"localhost:{listener.getsockname()[1]}"
os.environ |= {"FAL_KEY": "a:b", "FAL_RUN_HOST": host, "FAL_QUEUE_RUN_HOST": host, "SSL_CERT_FILE": str(certificate)}

import fal_client  # noqa: E402

heard: list[bytes] = []


def take() -> None:
    """Reads one whole request after another, and closes the connection."""
    while True:
        connection = tls.wrap_socket(listener.accept()[0], server_side=True)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
        heard.append(head + b"\r\n\r\n" + body)
        connection.close()


threading.Thread(target=take, daemon=True).start()
waits: list[float] = []
time.sleep = waits.append
counts = {}
for call in (fal_client.run, fal_client.submit):
    heard.clear()
    waits.clear()
    try:
        call("fal-ai/flux/dev", arguments={"prompt": "a lake"})
    except Exception as error:
        told = type(error).__name__
    named = any(name in heard[0].lower() for name in (b"idempotency", b"request-id", b"retry"))
    counts[call.__name__] = len(heard)
    print(f"{call.__name__}: {len(heard)} requests, {len(set(heard))} kind, named: {named}, then {told}")
    print(f"  waits of {', '.join(f'{wait:.1f}' for wait in waits)} s")
    if len(heard) != 10 or len(set(heard)) != 1 or named or b'{"prompt":"a lake"}' not in heard[0].replace(b": ", b":"):
        raise SystemExit("changed: it is sent another number of times, or with a name")
print("as described")
PY
