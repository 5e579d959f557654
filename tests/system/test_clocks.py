"""Real gateways on machines whose clocks are wrong, or are set while jobs run."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import Server, Servers, clean_environment, wait_until

# 50 steps of 80 ms: two sweeps come by meanwhile.
LONG = {"num_inference_steps": 50}
MODEL = "fake:0.08"
KEY = "key-of-both-gateways"


@pytest.fixture(scope="session")
def library() -> str:
    """What moves the clocks of a process; `make test` installs it."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: make test installs it"
    return str(found[0])


def other_clock(library: str, **faketime: object) -> dict[str, str]:
    """The environment of a gateway whose time of day is another; the rest of time is as it is.

    Workers go without: the library also shifts what `time.sleep` waits for, which a fake engine is made of.
    """
    names = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    return {"LD_PRELOAD": library} | names | {name.upper(): str(value) for name, value in faketime.items()}


def clock_of(environment: dict[str, str]) -> float:
    command = [sys.executable, "-S", "-c", "import time; print(time.time())"]
    done = subprocess.run(command, env=clean_environment() | environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize("skew_s", [90, -3_600])
def test_two_gateways_whose_clocks_differ_take_no_job_from_each_other(
    servers: Servers, postgres_url: str, library: str, tmp_path: Path, skew_s: int
) -> None:
    wrong_clock = other_clock(library, faketime=f"{skew_s:+d}s")
    assert abs(clock_of(wrong_clock) - time.time() - skew_s) < 5
    gateways: list[Server] = []
    for name, environment in (("right", None), ("wrong", wrong_clock)):
        (tmp_path / name).mkdir()
        settings = {"database_url": postgres_url, "api_key": KEY, "workers": 0}
        image_store = f"file://{tmp_path}/pictures"
        gateways.append(
            servers.start(tmp_path / name, environment=environment, image_store_url=image_store, **settings)
        )
    for gateway in gateways * 2:
        servers.start_worker(gateway, model=MODEL)
    jobs = [gateways[number % 2].submit(**LONG) for number in range(8)]
    for number, job_id in enumerate(jobs):
        # Asked at the other one.
        job = gateways[(number + 1) % 2].wait_status(job_id, "COMPLETED")
        assert "retries" not in job
        assert 4_000 <= job["executionTime"] < 60_000
        assert 0 <= job["delayTime"] < 60_000
    for gateway in gateways:
        wait_until(lambda gateway=gateway: gateway.health()["workers"]["ready"] == 4, "each knows the workers of both")


def test_a_clock_that_is_set_again_and_again_takes_no_job(servers: Servers, library: str, tmp_path: Path) -> None:
    setting = tmp_path / "faketime"
    setting.write_text("+0s")
    # Read anew each time.
    clock = other_clock(library, faketime_timestamp_file=setting, faketime_no_cache=1)
    server = servers.start(environment=clock, workers=0)
    servers.start_worker(server, model="fake:0.3")
    job_id = server.submit(**LONG)
    server.wait_status(job_id, "IN_PROGRESS")
    for count, seconds in enumerate((31, 62, -3_600), start=1):
        setting.write_text(f"{seconds:+d}s")
        wait_until(lambda count=count: server.log.read_text().count("the clock was set by") == count, "it is noticed")
        assert server.status(job_id)["status"] == "IN_PROGRESS"
    job = server.wait_status(job_id, "COMPLETED")
    assert "retries" not in job
    assert 15_000 <= job["executionTime"] < 40_000
    assert server.charges() == [job_id]
