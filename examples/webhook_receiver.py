"""Receives webhooks of flux-endpoint and checks their signatures. Standard library only.

export WEBHOOK_SECRET=$(flux-endpoint webhooks secret KEY_ID)
python webhook_receiver.py 9000
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
# Older messages are not taken: somebody may have recorded them.
TOLERANCE_S = 300
# In a real program: a table with a unique column. The same message may come more than once.
seen: set[str] = set()


def is_signed(message_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the signatures is ours: while a secret is being changed there are two."""
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    digest = hmac.new(SECRET, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(expected, signature) for signature in signatures.split(" "))


class Receiver(BaseHTTPRequestHandler):
    """Answers POST: 200 for what is signed, 401 for anything else."""

    def do_POST(self) -> None:
        """Take one message. The sender waits 10 seconds at most: real work belongs after the answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        message_id = self.headers.get("webhook-id", "")
        signatures = self.headers.get("webhook-signature", "")
        if not is_signed(message_id, self.headers.get("webhook-timestamp", ""), signatures, body):
            self.send_response(401)
        else:
            self.send_response(200)
            if message_id not in seen:
                seen.add(message_id)
                job = json.loads(body)
                print(job["id"], job["status"], job.get("output", {}).get("image_url", ""), flush=True)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
