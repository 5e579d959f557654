"""The commands `workers`, without a server."""

import asyncio
import functools
import json
import re

import pytest

from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.worker import WorkerRecord, WorkerState
from flux_endpoint.service.worker_tokens import WorkerTokens
from flux_endpoint.stores.connect import open_stores

pytestmark = pytest.mark.usefixtures("empty_place")


@pytest.fixture
def run(run):
    return functools.partial(run, "workers")


@pytest.fixture
def url(tmp_path):
    async def make():
        stores = await open_stores(url, SystemClock())
        now_ms = SystemClock().now_ms()
        for worker_id, state, reason, ago_s, step_us in (
            ("pod-1", "ready", "", 200, 9_000),
            ("pod-2", "unhealthy", "gpu: [hot]\x1b[2J", 1, 1_000),
            ("pod-3", "ready", "", 1, 1_000),
            ("pod-4", "ready", "", 1, 3_000),
        ):
            seen_ms = now_ms - ago_s * 1_000
            endpoints, kind = frozenset({"shout"}), "1f2e3d4c (device cpu, threads 1)"
            record = WorkerRecord(
                worker_id, endpoints, WorkerState(state), reason, seen_ms, seen_ms, fingerprint=kind, step_us=step_us
            )
            await stores.workers.note_worker(record, with_state=True)
        await stores.close()

    url = f"sqlite:///{tmp_path}/jobs.db"
    asyncio.run(make())
    return url


def test_tokens_are_made_listed_and_revoked(run, url, tmp_path):
    file = tmp_path / "endpoints.toml"
    file.write_text('[[endpoint]]\nid = "a"\n[[endpoint]]\nid = "b"\n')
    endpoints = ["--endpoints-file", str(file), "--endpoint", "b", "--endpoint", "a"]
    code, out, err = run("create", "lab [GPUs]", *endpoints, "--database-url", url)
    assert code == 0, err
    token_id, secret = out.split()[2], out.split()[-1]
    assert secret.startswith("fxw_")
    assert run("create", "all", "--database-url", url)[0] == 0

    async def authenticate():
        stores = await open_stores(url, SystemClock())
        try:
            return await WorkerTokens(stores.workers, SystemClock()).authenticate(secret)
        finally:
            await stores.close()

    assert asyncio.run(authenticate()).endpoint_ids == frozenset({"a", "b"})
    _, out, _ = run("list", "--database-url", url)
    assert secret not in out
    assert re.search(rf"{token_id} │ lab \[GPUs\] │ a, b +│ .* UTC +│ +│", out)
    assert re.search(r"│ all +│ all +│", out)
    code, out, _ = run("revoke", token_id, "--database-url", url)
    assert (code, out) == (0, f"worker token {token_id} is revoked; running servers notice within 5 seconds\n")
    _, out, _ = run("list", "--database-url", url)
    assert re.search(rf"{token_id} .* UTC │ .* UTC │", out)
    code, out, err = run("revoke", "none", "--database-url", url)
    assert (code, out) == (78, "")
    assert "no worker token with the id 'none'" in err


def test_the_list_shows_what_the_workers_do(run, url):
    _, out, _ = run("list", "--database-url", url)
    assert re.search(r"│ pod-1 +│ ready +│ 3 min ago +│ 0 +│ shout +│ 1f2e3d4c +│", out)
    assert re.search(r"│ pod-2 +│ unhealthy: gpu: \[hot\]\\x1b\[2J +│ \d+ s ago +│ 0 +│ shout +│", out)
    assert re.search(r"│ pod-3 +│ ready +│", out)
    assert re.search(r"│ pod-4 +│ throttled: its step takes 3.0 ms, 1.0 ms is usual for its kind +│", out)


def test_a_narrow_screen_leaves_nothing_out(run, url, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("list", "--database-url", url)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_list_is_there_for_programs(run, url):
    run("create", "lab", "--database-url", url)
    listed = json.loads(run("list", "--json", "--database-url", url)[1])
    assert [(token["name"], token["endpoints"], token["revoked"]) for token in listed["tokens"]] == [
        ("lab", None, None)
    ]
    assert [(worker["id"], worker["state"]) for worker in listed["workers"]] == [
        ("pod-1", "ready"),
        ("pod-2", "unhealthy"),
        ("pod-3", "ready"),
        ("pod-4", "throttled"),
    ]
    assert listed["workers"][1]["reason"] == "gpu: [hot]\x1b[2J"
    assert listed["workers"][3]["endpoints"] == ["shout"]


def test_the_environment_is_that_of_the_contract(run):
    options = ("--gateway", "https://x.example/", "--token", "fxw_'s", "--worker-id", "pod-1")
    code, out, err = run("env", "shout", *options, "--format", "docker")
    assert code == 0, err
    assert dict(line.split("=", 1) for line in out.splitlines()) == {
        "RUNPOD_WEBHOOK_GET_JOB": "https://x.example/v2/shout/job-take/$ID?gpu=unknown",
        "RUNPOD_WEBHOOK_POST_OUTPUT": "https://x.example/v2/shout/job-done/$RUNPOD_POD_ID/$ID?gpu=unknown",
        "RUNPOD_WEBHOOK_POST_STREAM": "https://x.example/v2/shout/job-stream/$RUNPOD_POD_ID/$ID?gpu=unknown",
        "RUNPOD_WEBHOOK_PING": "https://x.example/v2/shout/ping/$RUNPOD_POD_ID?gpu=unknown",
        "RUNPOD_AI_API_KEY": "fxw_'s",
        "RUNPOD_POD_ID": "pod-1",
        "RUNPOD_ENDPOINT_ID": "shout",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    _, out, _ = run("env", "shout", *options)
    assert "export RUNPOD_WEBHOOK_GET_JOB='https://x.example/v2/shout/job-take/$ID?gpu=unknown'\n" in out
    assert """export RUNPOD_AI_API_KEY='fxw_'"'"'s'\n""" in out
    drawn = {run("env", "shout", *options[:-2])[1] for _ in range(2)}
    assert len(drawn) == 2


def test_the_environment_needs_a_token(run):
    code, out, err = run("env", "shout")
    assert (code, out) == (2, "")
    assert "FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing" in err
