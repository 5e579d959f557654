#!/usr/bin/env bash
# replicate 1.0.7 (with httpx 0.28.1) and huggingface-hub 2.4.0 (with httpx2 2.16.2): server-sent events whose text holds
# U+2028, U+0085 or a form feed, which JSON allows unescaped (the latter excepted), and PDFs and web pages are full of.
#
# Expected: the text, whole. Lines of an event stream end at CR, LF or both and at nothing else (WHATWG HTML, 9.2.5), as
# the client of OpenAI reads them.
# Seen (CPython 3.11): both read the stream with iter_lines(), which cuts like str.splitlines(), at eight characters more.
# replicate takes what is behind one for a field without a name, and drops it: the text ends early, with no error.
# huggingface_hub ends the stream with a json.JSONDecodeError about a string that has no end. iter_lines() of requests
# cuts bytes, at CR and LF alone, so code that moved from it to httpx has changed.
#
# Our events are JSON in ASCII, with such characters escaped (`core/raw_json.py`;
# tests/api/test_replicate.py::test_events_have_no_character_that_clients_take_for_the_end_of_a_line).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet replicate==1.0.7 httpx==0.28.1 huggingface-hub==2.4.0 httpx2==2.16.2 openai==3.57.0
"$folder/venv/bin/python" - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import replicate
from huggingface_hub import InferenceClient
from openai import OpenAI
from replicate.stream import EventSource

PIECES = ["a lake", "at night", "in the rain"]
ASKED = [{"role": "user", "content": "which picture?"}]


class Events(BaseHTTPRequestHandler):
    separator = ""

    def do_GET(self) -> None:
        """What Replicate's stream of a prediction is."""
        self._answer(f"event: output\nid: 1\ndata: {self.separator.join(PIECES)}\n\nevent: done\nid: 2\ndata: {{}}\n\n")

    def do_POST(self) -> None:
        """What chat completions are."""
        self.rfile.read(int(self.headers["Content-Length"]))
        delta = {"role": "assistant", "content": self.separator.join(PIECES)}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": ""}
        text = json.dumps(chunk | {"choices": [{"index": 0, "delta": delta}]}, ensure_ascii=False)
        self._answer(f"data: {text}\n\ndata: [DONE]\n\n")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Events)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
hub, by_openai = InferenceClient(base_url=url, api_key="x"), OpenAI(base_url=url, api_key="x")


def by_replicate() -> str:
    with httpx.stream("GET", url) as response:
        events = EventSource(replicate.Client(api_token="x"), response, use_file_output=False)
        return "".join(event.data for event in events if event.event.value == "output")


def completed(client: object) -> str:
    chunks = client.chat.completions.create(model="m", messages=ASKED, stream=True)
    try:
        return "".join(chunk.choices[0].delta.content for chunk in chunks)
    except json.JSONDecodeError as error:
        return f"JSONDecodeError: {error}"


wrong = []
for name, separator in {"plain": " ", "U+2028": "\u2028", "U+0085": "\x85", "form feed": "\f"}.items():
    Events.separator = separator
    whole = separator.join(PIECES)
    found = {"replicate": by_replicate(), "huggingface_hub": completed(hub), "openai": completed(by_openai)}
    print(f"{name}: {found}")
    if name == "plain" or found["openai"] != whole:
        wrong += [client for client, text in found.items() if text != whole]
        continue
    # JSON writes a form feed as \f, so nothing is cut there.
    escaped = name == "form feed"
    cut = found["huggingface_hub"] == whole if escaped else "Unterminated" in found["huggingface_hub"]
    wrong += [name] * (found["replicate"] != PIECES[0] or not cut)
server.shutdown()
if wrong:
    raise SystemExit(f"changed: {wrong}")
print("as described")
PY
