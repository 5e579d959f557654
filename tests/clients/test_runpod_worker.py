"""Runpod's official worker SDK, unmodified, as a process of its own, serves jobs of a running server."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import DEV, Server, Servers, run_command, wait_until

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "workers.md").read_text()
# Declares the endpoints `shout` and `anything`.
(ENDPOINTS,) = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
# Each is a whole worker. The first is all that the guide shows.
(SHOUT,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
EVERYTHING = """
import time
import runpod

async def handler(job):
    import asyncio
    wish = job["input"]["wish"]
    if wish == "error":
        return {"error": "cannot do that"}
    if wish == "exception":
        raise ValueError("bad wish")
    if wish == "nothing":
        return {}
    if wish == "sleep":
        await asyncio.sleep(600)
    if wish == "progress":
        runpod.serverless.progress_update(job, {"percent": 50})
        await asyncio.sleep(600)
    if wish == "set":
        return {1, 2}
    if wish == "refresh":
        return {"refresh_worker": True, "done": True}
    return {"job": job}

runpod.serverless.start({"handler": handler})
"""
STREAM = """
import runpod
def handler(job):
    for number in range(3):
        yield {"number": number}
runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
"""
THREE_AT_ONCE = """
import asyncio
import runpod

async def handler(job):
    await asyncio.sleep(600)

runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 3})
"""
FLUX = """
import runpod
runpod.serverless.start({"handler": lambda job: {"image_url": "https://pictures.example/" + job["input"]["prompt"]}})
"""

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def server(servers: Servers, tmp_path: Path) -> Server:
    file = tmp_path / "endpoints.toml"
    file.write_text(ENDPOINTS)
    return servers.start(endpoints_file=file, workers=0, lease_s=6)


@pytest.fixture
def token(server: Server) -> str:
    done = run_command("workers", "create", "lab", cwd=server.folder, data_dir=server.data_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture
def start_worker(server: Server, token: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a handler with nothing but what `workers env` prints."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, endpoint_id: str, worker_id: str = "pod-1") -> subprocess.Popen[bytes]:
        printed = run_command(
            *("workers", "env", endpoint_id, "--format", "docker", "--worker-id", worker_id),
            cwd=tmp_path,
            gateway=server.url,
            worker_token=token,
        )
        assert printed.returncode == 0, printed.stderr
        variables = dict(line.split("=", 1) for line in printed.stdout.splitlines())
        assert all(name.startswith("RUNPOD_") for name in variables)
        variables["RUNPOD_PING_INTERVAL"] = "1000"  # the lease of this server is short
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        program = tmp_path / "handler.py"
        program.write_text(textwrap.dedent(code))
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(program)],
                env={"PATH": os.environ["PATH"], "HOME": str(home)} | variables,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/v2", headers=dict(server.client.headers), timeout=60) as client:
        yield client


def kill(worker: subprocess.Popen[bytes]) -> None:
    """As the end of a container does: the SDK pings from a process of its own, which would go on pinging."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def submit(client: httpx.Client, endpoint_id: str, **fields: object) -> str:
    reply = client.post(f"/{endpoint_id}/run", json={"input": fields})
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


def pause(seconds: float) -> None:
    """Let real time pass: an unmodified SDK in another process knows no other."""
    end_s = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end_s, "the pause is over")


def wait_status(client: httpx.Client, endpoint_id: str, job_id: str, *wanted: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        body = client.get(f"/{endpoint_id}/status/{job_id}").json()
        return body if body["status"] in wanted else None

    return wait_until(there, f"the job is {' or '.join(wanted)}")


def test_three_lines_serve_an_endpoint(client: httpx.Client, start_worker: StartWorker) -> None:
    assert client.post("/shout/runsync", json={"input": {"text": "x" * 51}}).json()["error"] == (
        "Invalid parameter: text must have at most 50 characters"
    )
    start_worker(SHOUT, "shout")
    body = client.post("/shout/runsync", json={"input": {"text": "hello"}}).json()
    assert (body["status"], body["output"]) == ("COMPLETED", {"shouted": "HELLO"})
    assert body["workerId"].endswith(":pod-1")
    workers = client.get("/shout/health").json()["workers"]
    assert (workers["ready"], workers["unhealthy"]) == (1, 0)


def test_errors_progress_and_stops(client: httpx.Client, start_worker: StartWorker) -> None:
    start_worker(EVERYTHING, "anything")
    ids = {wish: submit(client, "anything", wish=wish) for wish in ("error", "exception", "nothing")}
    # 1. What a handler returns and raises.
    failed = wait_status(client, "anything", ids["error"], "FAILED")
    assert failed["error"] == "cannot do that"
    raised = wait_status(client, "anything", ids["exception"], "FAILED")
    assert raised["error"] == "ValueError: bad wish"
    assert "output" not in wait_status(client, "anything", ids["nothing"], "COMPLETED")
    # 2. The handler gets the whole job.
    reply = client.post("/anything/runsync", json={"input": {"wish": "job"}, "webhook": "https://hook.example.org/"})
    job = reply.json()["output"]["job"]
    assert job["input"] == {"wish": "job"}
    assert (job["id"], job["webhook"]) == (reply.json()["id"], "https://hook.example.org/")
    # 3. Progress, well beyond the lease, until it is cancelled; then the worker is free again.
    running = submit(client, "anything", wish="progress")
    wait_until(
        lambda: client.get(f"/anything/status/{running}").json().get("output") == {"percent": 50},
        "the progress is shown",
    )
    pause(7)  # longer than the lease
    assert client.get(f"/anything/status/{running}").json()["status"] == "IN_PROGRESS"
    client.post(f"/anything/cancel/{running}")
    after = client.post("/anything/runsync", json={"input": {"wish": "job"}}).json()
    assert after["status"] == "COMPLETED"
    assert client.get(f"/anything/status/{running}").json()["status"] == "CANCELLED"


def test_a_generator_streams(client: httpx.Client, start_worker: StartWorker) -> None:
    start_worker(STREAM, "anything")
    job_id = submit(client, "anything")
    chunks: list[object] = []
    while True:
        body = client.get(f"/anything/stream/{job_id}").json()
        chunks += [chunk["output"] for chunk in body["stream"]]
        if body["status"] != "IN_QUEUE" and body["status"] != "IN_PROGRESS":
            break
    assert body["status"] == "COMPLETED"
    assert chunks == [{"number": number} for number in range(3)]
    assert client.get(f"/anything/status/{job_id}").json()["output"] == chunks


def test_a_worker_takes_as_many_as_it_runs_at_once(client: httpx.Client, start_worker: StartWorker) -> None:
    job_ids = [submit(client, "anything") for _ in range(4)]
    start_worker(THREE_AT_ONCE, "anything")
    for job_id in job_ids[:3]:
        wait_status(client, "anything", job_id, "IN_PROGRESS")
    health = client.get("/anything/health").json()
    assert (health["jobs"]["inProgress"], health["jobs"]["inQueue"], health["workers"]["running"]) == (3, 1, 1)


def test_a_worker_that_asks_for_a_refresh_waits_for_its_restart(
    client: httpx.Client, start_worker: StartWorker
) -> None:
    worker = start_worker(EVERYTHING, "anything")
    first = submit(client, "anything", wish="refresh")
    assert wait_status(client, "anything", first, "COMPLETED")["output"] == {"done": True}
    # The job is written first, then what becomes of the worker.
    wait_until(lambda: client.get("/anything/health").json()["workers"]["initializing"] == 1, "the worker restarts")
    second = submit(client, "anything", wish="nothing")
    pause(3)  # the worker asks again a second after its last job
    assert client.get(f"/anything/status/{second}").json()["status"] == "IN_QUEUE"
    kill(worker)
    start_worker(EVERYTHING, "anything")
    wait_status(client, "anything", second, "COMPLETED")


def test_a_killed_worker_costs_one_more_try(client: httpx.Client, start_worker: StartWorker) -> None:
    job_id = submit(client, "anything", wish="sleep")
    for pod in ("pod-1", "pod-2"):
        worker = start_worker(EVERYTHING, "anything", pod)
        body = wait_status(client, "anything", job_id, "IN_PROGRESS")
        assert body["workerId"].endswith(pod)
        kill(worker)
        body = wait_status(client, "anything", job_id, "IN_QUEUE", "FAILED")
    assert (body["status"], body["error"], body["retries"]) == ("FAILED", "job timed out after 1 retries", 1)


def test_the_official_worker_may_serve_flux(client: httpx.Client, start_worker: StartWorker) -> None:
    start_worker(FLUX, DEV)
    body = client.post(f"/{DEV}/runsync", json={"input": {"prompt": "lake", "seed": 7}}).json()
    url = "https://pictures.example/lake"
    assert body["output"] == {"image_url": url, "result": url, "cost": 0.02097152, "seed": 7}


def test_a_result_that_is_no_json_ends_its_job_with_words(client: httpx.Client, start_worker: StartWorker) -> None:
    start_worker(EVERYTHING, "anything")
    job_id = submit(client, "anything", wish="set")
    body = wait_status(client, "anything", job_id, "FAILED")
    assert body["error"].startswith(
        "the worker ended the job without a report that reached this server: its result may"
    )
    # The worker is well: it said itself that it runs nothing. A lease that ends has other words.
    assert client.post("/anything/runsync", json={"input": {"wish": "job"}}).json()["status"] == "COMPLETED"


def test_pings_of_a_worker_that_was_killed_keep_no_job(client: httpx.Client, start_worker: StartWorker) -> None:
    worker = start_worker(EVERYTHING, "anything")
    job_id = submit(client, "anything", wish="sleep")
    wait_status(client, "anything", job_id, "IN_PROGRESS")
    pause(2)  # its first ping is on its way, its call on the stop channel held
    # The process that pings lives on.
    worker.kill()
    worker.wait()
    wait_status(client, "anything", job_id, "IN_QUEUE")
    workers = client.get("/anything/health").json()["workers"]
    assert (workers["ready"], workers["unhealthy"]) == (0, 1)


def test_a_worker_that_is_told_to_go_costs_no_retry(client: httpx.Client, start_worker: StartWorker) -> None:
    leaving = start_worker(EVERYTHING, "anything")
    wait_until(lambda: client.get("/anything/health").json()["workers"]["idle"] == 1, "the worker waits for a job")
    leaving.terminate()
    pause(1)  # it starts no job any more
    # Its take is still held: it gets the job, and drops it.
    job_id = submit(client, "anything", wish="job")
    start_worker(EVERYTHING, "anything", "pod-2")
    body = wait_status(client, "anything", job_id, "COMPLETED")
    assert body["workerId"].endswith("pod-2")
    assert "retries" not in body
