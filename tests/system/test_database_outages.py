"""A gateway whose PostgreSQL falls silent: it answers, it says so once, and it can be stopped."""

import concurrent.futures
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.proxy import Proxy
from tests.servers import Server, Servers, wait_until

BODY = {"input": {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}}
# Five seconds are promised, and all waits of a server add up to less; the rest is what a busy machine may be late.
ANSWER_S = 20.0


@pytest.fixture
def server(servers: Servers, postgres_proxy: Proxy, tmp_path: Path) -> Server:
    url = f"postgresql://postgres@127.0.0.1:{postgres_proxy.port}/postgres"
    # The log as operators see it.
    return servers.start(database_url=url, log_level="info", rate_limits="off")


def test_a_silent_database_costs_nobody_more_than_five_seconds(server: Server, postgres_proxy: Proxy) -> None:
    job_id = server.submit()
    server.wait_status(job_id, "COMPLETED")
    postgres_proxy.swallow()

    def ask(number: int) -> tuple[httpx.Response, float]:
        began_s = time.monotonic()
        reply = server.client.get(f"/status/{job_id}") if number % 2 else server.client.post("/runsync", json=BODY)
        return reply, time.monotonic() - began_s

    with concurrent.futures.ThreadPoolExecutor(30) as threads:
        answers = list(threads.map(ask, range(30)))
    for reply, taken_s in answers:
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert taken_s < ANSWER_S
    postgres_proxy.flow()
    wait_until(lambda: server.client.get(f"/status/{job_id}").status_code == 200, "the database is found again")
    wait_until(lambda: server.client.post("/runsync", json=BODY).status_code == 200, "jobs run again")
    lines = [line for line in server.log.read_text().splitlines() if "gateway:" in line and "database" in line]
    assert len(lines) == 2, lines
    assert "did not answer" in lines[0]
    assert "answers again after" in lines[1]
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("is_running", [True, False])
def test_a_gateway_whose_database_is_silent_is_stopped_in_time(
    server: Server, postgres_proxy: Proxy, is_running: bool
) -> None:
    server.submit(num_inference_steps=50 if is_running else 1)
    server.wait_worker()
    postgres_proxy.swallow()
    began_s = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert time.monotonic() - began_s < ANSWER_S
    assert "Traceback" not in server.log.read_text()


def test_a_gateway_starts_behind_pgbouncer(servers: Servers, pgbouncer_url: str) -> None:
    server = servers.start(database_url=pgbouncer_url)
    reply = server.client.post("/runsync", json=BODY)
    assert reply.json()["status"] == "COMPLETED", reply.text
