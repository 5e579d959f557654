#!/usr/bin/env bash
# Chromium 156.0.8078.108 (by Playwright 1.65.2): a page that writes its address with history.replaceState while a reload of
# it is under way, as pages do that keep their input there and write it a moment after the last key.
#
# Expected: the page that comes back has the state and the address of before or after that call, and history.state is what was
# given with the one or the other.
# Seen, every time: it comes back with the address of before and with history.state null, although both calls gave one. A call
# under way that leaves the address alone changes the state as expected.
#
# Our page keeps what it must find again after a reload in sessionStorage
# (src/flux_endpoint/api/playground/address.js; tests/browser/test_running.py writes the address at that moment).
# Chromium is not in a package registry: the one on the PATH is taken, and its version printed.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet playwright==1.65.2
"$folder/venv/bin/python" - <<'PY'
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import sync_playwright


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
# What the browser asks for beside the page, and gives up.
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
under_way = {
    "nothing": "",
    "a state": "history.replaceState({written: 2}, '')",
    "a state and an address": "history.replaceState({written: 2}, '', '#second')",
}
found = {}
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"))
    print("Chromium", browser.version)
    for name, call in under_way.items():
        found[name] = set()
        for _ in range(3):
            page = browser.new_page()
            page.goto(url)
            page.evaluate("history.replaceState({written: 1}, '', '#first')")
            page.evaluate("(call) => addEventListener('beforeunload', () => eval(call))", call)
            page.reload()
            found[name].add(page.evaluate("JSON.stringify(history.state) + location.hash"))
            page.close()
        print(f"{name} written under way: {', '.join(sorted(found[name]))}")
    browser.close()
expected = {
    "nothing": {'{"written":1}#first'},
    "a state": {'{"written":2}#first'},
    "a state and an address": {"null#first"},
}
if found != expected:
    raise SystemExit("changed")
print("as described")
PY
