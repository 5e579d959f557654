"""What the guides show is what happens."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.servers import DEADLINE_S, Servers

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def code_blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL)


def run_block(block: str, url: str, folder: Path) -> str:
    script = block.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=os.environ.copy(), capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_follows_a_job_to_its_end(servers: Servers) -> None:
    server = servers.start(model="fake:0.05")
    (block,) = code_blocks("progress.md", "bash")
    messages = [
        json.loads(data) for data in re.findall(r"^data: (.*)$", run_block(block, server.url, server.folder), re.M)
    ]
    assert len({message["id"] for message in messages}) == 1
    states = [message["status"] for message in messages]
    assert states == sorted(states, key=["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].index)
    assert states[-1] == "COMPLETED"
    assert messages[-1] == server.status(messages[-1]["id"])
    steps = [message["progress"]["step"] for message in messages if "progress" in message]
    assert steps
    assert steps == sorted(steps)
    assert all(message["progress"]["total"] == 28 for message in messages if "progress" in message)


def test_curl_makes_the_pictures_of_a_batch(servers: Servers) -> None:
    server = servers.start(model="fake")
    (block,) = code_blocks("batches.md", "bash")
    added, finalized, page = re.findall(r"\{.*?\}(?=\{|$)", run_block(block, server.url, server.folder).strip())
    assert json.loads(added)["requestTotal"] == 3
    assert json.loads(finalized)["status"] == "FINALIZED"
    assert [line["status"] for line in json.loads(page)["requests"]] == ["COMPLETED"] * 3
