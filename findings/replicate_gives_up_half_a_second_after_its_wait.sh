#!/usr/bin/env bash
# replicate 1.0.7 (Python), creating a prediction with `wait`, at a server that needs some time beyond it.
#
# Expected: `wait=1` asks the server (Prefer: wait=1) to hold its answer for a second at most; how long the client
# itself waits for an answer stays as without, so that one that is a second late still counts.
# Seen: its limit becomes half a second more than the wait. An answer after 1.9 s is an httpx.ReadTimeout, sent once
# and not again, and the id of the prediction that was made is lost with it; without `wait` the same answer counts.
#
# So a server must answer some time before the wait is over: ours holds for half a second less than it was asked for.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet replicate==1.0.7 httpx==0.28.1
"$folder/venv/bin/python" - <<'PY'
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import replicate

MADE = {
    "id": "made", "model": "a/b", "version": "v", "status": "starting", "input": {}, "output": None, "logs": "",
    "error": None, "metrics": None, "created_at": "2026-11-01T00:00:00Z", "started_at": None, "completed_at": None,
    "urls": {"get": "", "cancel": ""},
}  # fmt: skip


class Late(BaseHTTPRequestHandler):
    """Answers after 1.9 seconds."""

    def do_POST(self) -> None:
        self.server.asked.append(self.headers.get("Prefer"))
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(1.9)
        body = json.dumps(MADE).encode()
        try:
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # nobody is there any more

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
server.asked = []
threading.Thread(target=server.serve_forever, daemon=True).start()
client = replicate.Client(api_token="key", base_url=f"http://127.0.0.1:{server.server_port}")


def create(**wait: int) -> str:
    try:
        return client.predictions.create(version="v", input={}, **wait).id
    except httpx.ReadTimeout:
        return "ReadTimeout"


seen = [create(), create(wait=1)], server.asked
print(f"without and with wait=1: {seen[0]}; asked with Prefer: {seen[1]}")
if seen != (["made", "ReadTimeout"], [None, "wait=1"]):
    raise SystemExit("changed")
print("as described")
PY
