"""Runpod's Python client 1.12 and the release candidate of 2.0, unmodified, by the same program."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.servers import DEADLINE_S, Server

HERE = Path(__file__).parent
# Two majors of one package, whose other needs are the same: the newer one lies in a folder of its own.
REQUIREMENTS = HERE / "runpod-2" / "requirements.txt"
VERSIONS = ["1.12.0", "2.0.0rc2"]


@pytest.fixture(scope="session")
def folder_of_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runpod-2")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", folder, "-r", REQUIREMENTS], check=True, timeout=DEADLINE_S)
    return folder


@pytest.fixture(scope="session")
def paths(folder_of_2: Path) -> Mapping[str, Mapping[str, str]]:
    """Where Python finds each version."""
    return {"1.12.0": {}, "2.0.0rc2": {"PYTHONPATH": str(folder_of_2)}}


def told_by(server: Server, paths: Mapping[str, str], *scenarios: str) -> dict[str, Any]:
    key = (server.data_dir / "api-key").read_text().strip()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = [sys.executable, HERE / "runpod_program.py", server.url, *scenarios]
    done = subprocess.run(
        program, env=environment | {"RUNPOD_API_KEY": key, **paths}, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("version", VERSIONS)
def test_pictures_and_bad_input(server: Server, version: str, paths: Mapping[str, Mapping[str, str]]) -> None:
    told = told_by(server, paths[version], "pictures", "bad_input")
    assert told["version"] == version
    assert told["pictures"] == {"is_jpeg": True, "are_equal": True}
    assert "400 Client Error: Bad Request" in told["bad_input"]["sync"]
    assert told["bad_input"]["async"] == ["FAILED", "Invalid parameter: width must be between 256 and 1536"]


def test_the_client_of_apps(server: Server, paths: Mapping[str, Mapping[str, str]]) -> None:
    told = told_by(server, paths["2.0.0rc2"], "queue_pictures", "queue_bad_input", "queue_unknown")
    assert told["queue_pictures"] == {"is_jpeg": True, "are_equal": True}
    assert "400, message='Bad Request'" in told["queue_bad_input"]
    assert told["queue_unknown"]["pauses"] == [0.5, 1, 2, 4, 8, 16]
    assert told["queue_unknown"]["error"].startswith("EndpointNotFound")


def test_slow_jobs_and_cancels(slow_server: Server, paths: Mapping[str, Mapping[str, str]]) -> None:
    for version in VERSIONS:
        told = told_by(slow_server, paths[version], "slow", "cancel")
        assert told["slow"]["before"] in ("IN_QUEUE", "IN_PROGRESS")
        assert told["slow"]["steps"] == sorted(set(told["slow"]["steps"]))
        assert told["slow"]["after"] == "COMPLETED"
        assert told["cancel"] == {"cancelled": "CANCELLED", "status": "CANCELLED", "output": None}
    told = told_by(slow_server, paths["2.0.0rc2"], "queue_slow", "queue_cancel")
    assert told["queue_slow"]["status"] == "COMPLETED"
    assert told["queue_slow"]["steps"] == sorted(set(told["queue_slow"]["steps"]))
    assert told["queue_cancel"]["cancelled"] == "CANCELLED"
    # No error is raised for it: the result is the job.
    assert told["queue_cancel"]["result"]["status"] == "CANCELLED"


def test_failed_jobs(failing_server: Server, paths: Mapping[str, Mapping[str, str]]) -> None:
    for version in VERSIONS:
        assert told_by(failing_server, paths[version], "failed")["failed"] == {"output": None, "status": "FAILED"}
    told = told_by(failing_server, paths["2.0.0rc2"], "queue_failed")
    assert told["queue_failed"] == "RemoteExecutionError: remote execution failed: no paint"
