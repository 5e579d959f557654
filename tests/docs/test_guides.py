"""What the guides show is what happens."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flux_endpoint.core.marks import parameters_in
from tests.servers import COMMAND, DEADLINE_S, Server, Servers

GUIDES = Path(__file__).parents[2] / "docs" / "guides"

# On one of the parallel processes.
on_shared_server = pytest.mark.xdist_group("guides")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    try:
        yield servers.start(model="fake")
    finally:
        servers.close()


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
    server = servers.start(model="fake:0.2")
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


@on_shared_server
def test_curl_makes_the_pictures_of_a_batch(server: Server) -> None:
    (block,) = code_blocks("batches.md", "bash")
    added, finalized, page = re.findall(r"\{.*?\}(?=\{|$)", run_block(block, server.url, server.folder).strip())
    assert json.loads(added)["requestTotal"] == 3
    assert json.loads(finalized)["status"] == "FINALIZED"
    assert [line["status"] for line in json.loads(page)["requests"]] == ["COMPLETED"] * 3


def test_a_picture_is_signed_and_checked_as_the_guide_says(servers: Servers, tmp_path: Path) -> None:
    certificates, picture = code_blocks("marks.md", "bash")
    run_block(certificates, "", tmp_path)
    files = {"c2pa_cert": tmp_path / "pictures.pem", "c2pa_key": tmp_path / "pictures.key"}
    server = servers.start(model="fake", **files)
    told = run_block(picture.replace(".venv/bin/flux-endpoint", shlex.join(COMMAND)), server.url, server.folder)
    assert re.search(r"^  signature +holds: unchanged since it was signed, by somebody trusted$", told, re.M)
    assert re.search(r"^  signed by +Pictures Ltd, pictures.example.org$", told, re.M)
    assert re.search(r"^  prompt +a lake at dawn$", told, re.M)


@on_shared_server
def test_a_picture_is_drawn_from_a_picture(server: Server) -> None:
    by_curl, by_command = code_blocks("pictures-from-pictures.md", "bash")
    answers = run_block(by_curl, server.url, server.folder).replace("}{", "}\n{").splitlines()
    *drawn, estimated = map(json.loads, answers)
    assert [job["status"] for job in drawn] == ["COMPLETED"] * 2
    assert estimated["cost"] == drawn[1]["output"]["cost"]
    first, second = (httpx.get(job["output"]["image_url"]).content for job in drawn)
    assert parameters_in(first)["source_image"] == parameters_in(second)["source_image"]
    by_command = by_command.replace(".venv/bin/flux-endpoint", shlex.join(COMMAND))
    assert "snow.png: 256 x 256, 17 steps, seed 3" in run_block(by_command, server.url, server.folder)
    told = parameters_in((server.folder / "snow.png").read_bytes())
    assert told["source_image"] == parameters_in(second)["source_image"]


@pytest.mark.xdist_group("pictures")
def test_curl_draws_with_the_lora_of_the_embedded_model(demo_server: Server) -> None:
    server = demo_server
    (block,) = code_blocks("loras.md", "bash")
    answer = json.loads(run_block(block, server.url, server.folder))
    assert answer["status"] == "COMPLETED", answer
    picture = server.client.get(answer["output"]["image_url"]).content
    (lora,) = parameters_in(picture)["loras"]
    assert (lora["path"], lora["scale"]) == ("screenprint", 0.8)
    refused = run_block(block.replace("screenprint", "woodcut"), server.url, server.folder)
    assert "loras[0].path cannot be used: there is no LoRA 'woodcut' here; there are screenprint" in refused


@on_shared_server
def test_a_draft_is_picked_and_finished(server: Server) -> None:
    (block,), (by_command,) = code_blocks("drafts.md", "bash"), code_blocks("drafts.md", "text")
    told = run_block(block, server.url, server.folder).replace("}{", "}\n{").splitlines()
    drafts, finished, uninterrupted = (json.loads(line)["output"] for line in told)
    assert drafts["seeds"][2] == finished["seed"] == uninterrupted["seed"]
    picked, one, other = (
        httpx.get(url).content for url in (drafts["images"][2], finished["image_url"], uninterrupted["image_url"])
    )
    assert one == other
    assert (parameters_in(picked)["stop_after"], "stop_after" in parameters_in(one)) == (8, False)
    command = f"{shlex.join(COMMAND)} finish --server {server.url}"
    said = run_block(by_command.replace(".venv/bin/flux-endpoint finish", command), server.url, server.folder)
    assert said == f"castle.png: seed {finished['seed']}, {finished['cost']} USD\n"
    assert (server.folder / "castle.png").read_bytes() == one
    assert round(drafts["cost"] / 4 + finished["cost"], 8) == uninterrupted["cost"]
