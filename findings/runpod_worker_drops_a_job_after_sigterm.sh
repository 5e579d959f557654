#!/usr/bin/env bash
# runpod 1.12.0 (Python), a serverless worker that is told to end (SIGTERM) while it waits for a job.
#
# Expected: the worker drops its held call for a job, as it first ends what it runs; or it runs and reports the job that
# the call still brings. Either way the queue knows.
# Seen (CPython 3.11): it keeps the call open. A job that the answer brings is taken, named as running in the pings of
# the next seconds, never given to the handler and never reported; then the process ends with status 0. The queue has
# handed out a job that nobody has.
#
# Our gateway (decision 0024) tells a leaving worker by its stop channel falling silent while it asks for jobs, gives it none, and
# puts a job that was lost so back in its place without counting a retry.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet runpod==1.12.0
export HOME=$folder
cat >"$folder/worker.py" <<'PY'
import runpod


async def handler(job):
    print("the handler runs", flush=True)
    return {"seen": job["input"]}


runpod.serverless.start({"handler": handler})
PY
"$folder/venv/bin/python" - "$folder/worker.py" <<'PY'
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep

JOB = json.dumps({"id": "the-job", "input": {"prompt": "lakes"}}).encode()
takes, told, ended = 0, threading.Event(), threading.Event()
asked = threading.Event()
pings: list[str] = []
reports: list[str] = []


class Queue(BaseHTTPRequestHandler):
    """One job, a second after the worker was told to end."""

    def do_GET(self) -> None:
        global takes
        if self.path.startswith("/ping/"):
            pings.append(self.path)
            self.answer(200)
        elif self.path.startswith("/job-take/"):
            takes += 1
            asked.set()
            first = takes == 1
            told.wait()
            sleep(1)
            self.answer(200, JOB) if first else self.answer(204)
        else:
            # The stop channel is held, as Runpod's is.
            ended.wait(10)
            self.answer(204)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        reports.append(self.path)
        self.answer(200)

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Queue)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
environment = os.environ | {
    "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
    "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
    "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
    "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
    "RUNPOD_AI_API_KEY": "key",
    "RUNPOD_POD_ID": "worker",
    "RUNPOD_PING_INTERVAL": "1000",
    "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
    "RUNPOD_SKIP_GPU_CHECK": "true",
}
worker = subprocess.Popen(
    [sys.executable, sys.argv[1]], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
)
try:
    assert asked.wait(60), "the worker never asked for a job"
    sleep(1)
    worker.send_signal(signal.SIGTERM)
    told.set()
    output, _ = worker.communicate(timeout=60)
finally:
    ended.set()
    # The process that pings is a child of its own.
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
claims = sum("job_id=the-job" in ping for ping in pings)
print(f"status {worker.returncode}, {claims} pings name the job as running, reports: {reports}")
print(f"the handler ran: {'the handler runs' in output}; the job was taken: {'the-job' in output}")
if worker.returncode != 0 or not claims or reports or "the handler runs" in output:
    raise SystemExit("changed: the job is run, reported or not taken")
print("as described")
PY
