"""The embedded model through the whole line, and without a server."""

from urllib.parse import urljoin

import httpx
import pytest

from tests.servers import SCHNELL, run_command, wait_until

# Together on one of the parallel processes, so that they share a server.
pytestmark = pytest.mark.xdist_group("pictures")

SMALL = {"width": 256, "height": 256, "image_format": "png", "seed": 7}
PNG_START = b"\x89PNG\r\n\x1a\n"


def test_both_endpoints_draw_with_the_embedded_model(demo_server, tmp_path):
    server = demo_server
    job = server.wait_status(server.submit(num_inference_steps=2, **SMALL), "COMPLETED")
    picture = httpx.get(job["output"]["image_url"])
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(PNG_START)
    url = f"{server.url}/v2/{SCHNELL}/runsync"
    reply = server.client.post(url, json={"input": {"prompt": "a robot by a lake"} | SMALL})
    assert reply.json()["status"] == "COMPLETED"
    [warning] = reply.json()["output"]["warnings"]
    assert warning == "prompt has words that this small model does not know: robot; nearest: person for robot."
    for endpoint in httpx.get(f"{server.url}/v2/endpoints").json():
        known = httpx.get(endpoint["vocabulary"]).json()["words"]
        assert "lake" in known and "robot" not in known
        pieces = httpx.get(endpoint["gallery"]).json()
        shown = httpx.get(urljoin(endpoint["gallery"], pieces[0]["picture"]))
        assert shown.headers["content-type"] == "image/webp"
    # The command line draws the same bytes as the server.
    arguments = ["--width=256", "--height=256", "--steps=2", "--seed=7", "-o", "lake.png"]
    done = run_command("generate", "a lake", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lake.png").read_bytes() == picture.content


def test_a_model_that_was_unloaded_draws_the_same_bytes_again(demo_server):
    server = demo_server

    def picture():
        job = server.wait_status(server.submit(num_inference_steps=2, **SMALL), "COMPLETED")
        return httpx.get(job["output"]["image_url"]).content

    def memory():
        workers = server.client.get(f"{server.url}/v2/{SCHNELL}/health?details=true").json()["details"]
        return workers[0].get("memory", "")

    first = picture()
    wait_until(lambda: memory().startswith("full (it takes "), "the worker says how it keeps its model")
    before = server.workers()[0].memory_info().rss
    assert len(server.client.post(f"{server.url}/v2/gpu/release").json()["workers"]) == 1
    wait_until(lambda: memory().startswith("unloaded"), "the model is unloaded")
    assert server.workers()[0].memory_info().rss < before
    assert picture() == first
    wait_until(lambda: memory().startswith("full (it takes "), "the model is loaded again")


def test_a_model_without_jobs_is_unloaded(servers):
    server = servers.start(model="demo", idle_unload_s="0.2")
    job = server.wait_status(server.submit(num_inference_steps=2, **SMALL), "COMPLETED")
    wait_until(
        lambda: (
            server.client.get(f"{server.url}/v2/{SCHNELL}/health?details=true")
            .json()["details"][0]
            .get("memory", "")
            .startswith("unloaded")
        ),
        "the model is unloaded",
    )
    again = server.wait_status(server.submit(num_inference_steps=2, **SMALL), "COMPLETED")
    assert httpx.get(again["output"]["image_url"]).content == httpx.get(job["output"]["image_url"]).content
