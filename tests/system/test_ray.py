"""Workers on a real Ray cluster: a head without room and nodes that come and go, all on this machine."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from flux_endpoint.fleet.ray_messages import DriverSettings, FleetReport, FleetRequest
from tests.ray_nodes import Nodes, is_worker, ray_nodes
from tests.servers import Server, wait_until

pytestmark = pytest.mark.xdist_group("ray")

# Ray needs it for a node that is lost, and for two that start on a busy machine.
PATIENCE_S = 90


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes() as nodes:
        yield nodes


def two(nodes: Nodes) -> list[object]:
    """Two machines and no more: those that another test has left, and new ones."""
    while len(nodes.all) < 2:
        nodes.add()
    return nodes.all[:]


def counted(server: Server) -> int:
    """How many workers ask for jobs."""
    workers = server.health()["workers"]
    return workers["ready"] + workers["running"]


def wait_counted(server: Server, count: int) -> None:
    what = f"{count} workers ask for jobs"
    try:
        wait_until(lambda: counted(server) == count, what, PATIENCE_S)
    except AssertionError:
        raise AssertionError(f"{what}: {server.health()}; the log:\n{server.log.read_text()[-6_000:]}") from None


def wait_one_each(nodes: Nodes, server: Server, *places: object) -> None:
    """Seen on the machines themselves: a gateway counts a worker that is lost for some seconds more."""

    def workers() -> list[list[int]]:
        return [[worker.pid for worker in nodes.workers(place)] for place in places]

    try:
        wait_until(lambda: [len(one) for one in workers()] == [1] * len(places), "each has one", PATIENCE_S)
    except AssertionError:
        raise AssertionError(f"one each: {workers()}; the log:\n{server.log.read_text()[-6_000:]}") from None


def test_workers_live_on_the_cluster_whatever_happens_to_nodes_and_gateways(nodes, servers):
    first, second = two(nodes)
    settings = {"fleet": "ray", "ray_address": nodes.address, "workers": 2, "lease_s": 6, "model": "fake:0.2"}
    server = servers.start(**settings)
    # 1. They come up, one on each node, and draw.
    wait_counted(server, 2)
    wait_one_each(nodes, server, first, second)
    jobs = [server.submit(num_inference_steps=2) for _ in range(4)]
    for job_id in jobs:
        server.wait_status(job_id, "COMPLETED")
    # 2. A machine is lost under its jobs: they are drawn by the other one, and its worker has no place for now.
    jobs = [server.submit(num_inference_steps=15) for _ in range(2)]
    wait_until(lambda: server.health()["workers"]["running"] == 2, "both workers draw")
    nodes.lose(first)
    wait_counted(server, 1)
    ends = [server.wait_status(job_id, "COMPLETED") for job_id in jobs]
    assert sorted(job.get("retries", 0) for job in ends) == [0, 1]
    # 3. Another machine joins: the lost node's worker comes up there.
    third = nodes.add()
    wait_one_each(nodes, server, second, third)
    there = {node: nodes.workers(node) for node in (second, third)}
    wait_counted(server, 2)
    # 4. The gateway is killed. Its workers stay, its successor finds them, and needs one only: the other gives back
    # what it draws, unblamed, and leaves.
    jobs = [server.submit(num_inference_steps=30) for _ in range(2)]
    wait_until(lambda: server.health()["workers"]["running"] == 2, "both workers draw")
    server.signal(signal.SIGKILL)
    server.wait_exit()
    server = servers.restart(server, workers=1)
    wait_counted(server, 1)
    before = [worker for workers in there.values() for worker in workers]
    remaining = wait_until(
        lambda: (left := list(filter(is_worker, before))) and len(left) == 1 and left, "one of them has left"
    )
    ends = [server.wait_status(job_id, "COMPLETED") for job_id in jobs]
    assert all(job.get("retries", 0) == 0 for job in ends)
    assert is_worker(remaining[0])
    # 5. SIGTERM: the gateway goes in time, the worker stays.
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert is_worker(remaining[0])


def test_two_drivers_that_want_the_same_do_no_harm(nodes):
    two(nodes)
    # Workers that refuse at once, and are tried again for as long as they are wanted.
    settings = DriverSettings(
        nodes.address, "two-drivers", "http://127.0.0.1:9", "cpu", {"FLUX_ENDPOINT_MODEL": "fake"}
    )
    command = [sys.executable, "-m", "flux_endpoint.fleet.ray_driver"]
    with contextlib.ExitStack() as stack:
        drivers = []
        for _ in range(2):
            driver = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(driver.kill)
            driver.stdin.write(settings.to_json() + "\n")
            drivers.append(driver)

        def request(driver, count):
            driver.stdin.write(FleetRequest(count).to_json() + "\n")
            driver.stdin.flush()
            return FleetReport.from_json(driver.stdout.readline())

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(request, drivers, [1, 1]))
            assert [list(seen.placed) for seen in both] == [["cpu-0"], ["cpu-0"]]
            wait_until(lambda: request(drivers[0], 1).placed["cpu-0"], "it is placed", PATIENCE_S)
            one, other = (request(driver, 1).placed["cpu-0"] for driver in drivers)
            assert one.host == other.host
            both = list(pool.map(request, drivers, [0, 0]))
            assert [seen.placed for seen in both] == [{}, {}]
        for driver in drivers:
            driver.stdin.close()
            assert driver.wait(PATIENCE_S) == 0


def test_a_cluster_that_is_away_keeps_nobody_from_their_work(servers):
    server = servers.start(fleet="ray", ray_address="127.0.0.1:9")
    assert counted(server) == 0
    assert server.health()["workers"]["initializing"] == 0
    job_id = server.submit()
    servers.start_worker(server)
    server.wait_status(job_id, "COMPLETED")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_without_an_address_the_cluster_is_this_machine_s_and_ends_with_the_server(servers, monkeypatch):
    home = tempfile.mkdtemp(prefix="ray-")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        server = servers.start(fleet="ray", environment={"HOME": home, "RAY_TMPDIR": home})
        wait_counted(server, 1)
        server.wait_status(server.submit(), "COMPLETED")
        below = psutil.Process(server.process.pid).children(recursive=True)
        assert any(map(is_worker, below))
        server.signal(signal.SIGKILL)
        server.wait_exit()
        _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
        assert not alive
    finally:
        shutil.rmtree(home, ignore_errors=True)
