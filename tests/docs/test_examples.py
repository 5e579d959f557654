"""The programs of examples/ run as they stand: the requests that Runpod's own pages show, with another host and key."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.servers import DEADLINE_S, DEV, SCHNELL, Server, Servers

# Together on one of the parallel processes, so that they share a server.
pytestmark = pytest.mark.xdist_group("examples")

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = {".sh": ["bash"], ".py": [sys.executable], ".mjs": ["node"]}
# What each asks for, told back by the listing of jobs and by the picture itself.
COSTS = {"flux_dev": 0.02097152, "flux_schnell": 0.00251658, "queue_and_poll": 0.02097152}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    yield servers.start(model="fake")
    servers.close()


def run_example(server: Server, file: Path) -> subprocess.CompletedProcess[str]:
    key = (server.data_dir / "api-key").read_text().strip()
    environment = os.environ | {"BASE_URL": server.url, "RUNPOD_API_KEY": key}
    return subprocess.run(
        [*COMMANDS[file.suffix], str(file)], env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )


@pytest.mark.parametrize("ending", COMMANDS)
@pytest.mark.parametrize("name", COSTS)
def test_an_example_makes_its_picture(server: Server, name: str, ending: str) -> None:
    done = run_example(server, EXAMPLES / (name + ending))
    assert done.returncode == 0, done.stdout + done.stderr
    url = re.search(rf"{server.url}/images/[\w-]+\.(png|jpg)", done.stdout)
    assert url, done.stdout
    with Image.open(io.BytesIO(httpx.get(url[0]).content)) as picture:
        assert (picture.size, picture.format) == ((1024, 1024), "PNG" if name == "flux_dev" else "JPEG")
    endpoint = SCHNELL if name == "flux_schnell" else DEV
    newest = server.client.get(f"{server.url}/v2/{endpoint}/requests").json()["requests"][0]
    assert (newest["status"], newest["cost"]) == ("COMPLETED", COSTS[name])


@pytest.mark.parametrize("ending", COMMANDS)
def test_an_example_says_what_the_server_refuses(server: Server, tmp_path: Path, ending: str) -> None:
    wrong = tmp_path / f"wrong{ending}"
    wrong.write_text((EXAMPLES / f"flux_dev{ending}").read_text().replace("1024", "1000"))
    done = run_example(server, wrong)
    assert done.returncode != 0
    if ending != ".py":  # `requests` shows the code of an answer, not its text
        assert "width must be divisible by 64" in done.stdout + done.stderr


def test_every_example_is_listed_and_run() -> None:
    listed = set(re.findall(r"`(\w+\.(?:sh|py|mjs))`", (EXAMPLES / "README.md").read_text()))
    assert listed == {file.name for file in EXAMPLES.iterdir() if file.suffix in COMMANDS}
    assert {name + ending for name in COSTS for ending in COMMANDS} == listed - {"webhook_receiver.py"}
