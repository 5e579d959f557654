#!/usr/bin/env bash
# httpx 0.28.1 and httpx2 2.16.2: an answer with Content-Encoding: gzip whose body has several members, as bgzip,
# `cat a.gz b.gz`, and servers that pack piece by piece write it.
#
# Expected: all of it. RFC 9110 calls the format of RFC 1952 by that name, and there a file is "a series of members"; Python's
# own gzip.decompress, requests, aiohttp and Node's fetch read them all.
# Seen (CPython 3.11): the first member is unpacked, and the others are gone: no error, no warning, also in iter_bytes(). The
# Content-Length is right, so nothing is missing on the wire. Where members end at lines, as in a log or a listing
# that grew by appending, what is left looks whole. curl 7.88.1 --compressed keeps as little, but ends with status 23.
#
# Our gateway reads all members of a request's body (tests/api/test_front.py::test_a_body_may_come_as_gzip).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet httpx==0.28.1 httpx2==2.16.2 requests==2.34.2 aiohttp==3.14.5
"$folder/venv/bin/python" - <<'PY'
import asyncio
import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpx
import httpx2
import requests

LINES = [b"first\n", b"second\n", b"third\n"]
WHOLE = b"".join(LINES)
BODY = b"".join(gzip.compress(line) for line in LINES)
assert gzip.decompress(BODY) == WHOLE


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


async def by_aiohttp() -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.read()


def in_pieces(library: object) -> bytes:
    with library.stream("GET", url) as response:
        return b"".join(response.iter_bytes())


read = {
    "requests": requests.get(url).content,
    "aiohttp": asyncio.run(by_aiohttp()),
    "httpx": httpx.get(url).content,
    "httpx, in pieces": in_pieces(httpx),
    "httpx2": httpx2.get(url).content,
    "httpx2, in pieces": in_pieces(httpx2),
}
server.shutdown()
for name, content in read.items():
    print(f"{name}: {content!r}")
if any(content != (LINES[0] if name.startswith("httpx") else WHOLE) for name, content in read.items()):
    raise SystemExit("changed: not the first member alone by both")
print("as described")
PY
