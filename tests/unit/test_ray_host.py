"""The host of one worker, with tiny real processes in the place of workers and without Ray."""

import os

import psutil
import pytest

from flux_endpoint.fleet.local import Backoff
from flux_endpoint.fleet.ray_host import WorkerHost, WorkerSpec
from tests.servers import wait_until

# Ends at the end of its input, as a worker does when its parent is gone.
PATIENT = "import sys; sys.stdin.read()"
DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); sys.stdin.read()"


@pytest.fixture
def hosts():
    """Makes hosts, and ends them."""
    made = []

    def make(code, has_gpu=False, environment=None):
        spec = WorkerSpec(["-I", "-S", "-c", code], environment or {})
        made.append(WorkerHost("w0", spec, has_gpu, Backoff(0.01, 0.01)))
        return made[-1]

    yield make
    for host in made:
        host.leave(0)


def wait_running(host):
    return wait_until(lambda: host.report().pid and host.report(), "a worker runs")


def test_a_worker_that_is_killed_is_followed_by_another_with_a_new_id(hosts):
    host = hosts(PATIENT)
    first = wait_running(host)
    psutil.Process(first.pid).kill()
    second = wait_until(lambda: (now := host.report()).pid not in (None, first.pid) and now, "another runs")
    assert second.worker_id != first.worker_id
    assert second.worker_id.startswith("w0-")
    assert (second.restarts, second.last_end, second.host) == (1, "signal SIGKILL", first.host)


def test_a_worker_that_refuses_is_tried_again_and_the_refusal_is_told(hosts):
    host = hosts("raise SystemExit(78)")
    report = wait_until(lambda: (now := host.report()).restarts > 1 and now, "it was tried again")
    assert report.refusal == 78
    assert report.last_end == "exit code 78"


def test_a_process_that_cannot_be_made_is_tried_again(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/at/all")
    host = WorkerHost("w0", WorkerSpec([], {}), False, Backoff(0.01, 0.01))
    wait_until(lambda: host.report().restarts > 1, "it was tried again")
    assert host.report().refusal is None
    host.leave()


def test_restart_is_for_the_worker_that_is_meant(hosts):
    host = hosts(PATIENT)
    first = wait_running(host)
    host.restart("another")
    assert host.report() == first
    host.restart(first.worker_id)
    second = wait_until(lambda: (now := host.report()).pid not in (None, first.pid) and now, "another runs")
    assert second.last_end == ""


def test_leaving_ends_a_deaf_worker_and_starts_no_other(hosts, capfd):
    host = hosts(DEAF)
    report = wait_running(host)
    told = []
    wait_until(lambda: told.append(capfd.readouterr().out) or "deaf" in "".join(told), "it is deaf")
    host.leave(0.1)
    assert not psutil.pid_exists(report.pid)
    assert host.report().pid is None
    assert host.report().has_left


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_worker_has_the_machine_s_environment_without_its_settings_and_sees_only_its_gpu(
    hosts, monkeypatch, capfd, has_gpu
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("FLUX_ENDPOINT_MODEL", "the machine's")
    code = "import os, sys; print(dict(os.environ), flush=True); sys.stdin.read()"
    hosts(code, has_gpu, {"FLUX_ENDPOINT_GATEWAY": "http://there"})
    told = []
    wait_until(lambda: told.append(capfd.readouterr().out) or "}" in "".join(told), "it has told")
    environment = eval("".join(told))
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["CUDA_VISIBLE_DEVICES"] == ("3" if has_gpu else "")
    assert environment["FLUX_ENDPOINT_GATEWAY"] == "http://there"
    assert environment["FLUX_ENDPOINT_WORKER_ID"].startswith("w0-")
    assert "FLUX_ENDPOINT_MODEL" not in environment


def test_specs_with_other_secrets_have_other_digests_and_do_not_show_them():
    one, other = (WorkerSpec(["worker"], {"TOKEN": token}) for token in ("secret-1", "secret-2"))
    assert one.digest != other.digest
    assert one.digest == WorkerSpec(["worker"], {"TOKEN": "secret-1"}).digest
    assert "secret" not in repr(one)
