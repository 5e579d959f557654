"""The embedded model through the whole line, and without a server."""

import httpx

from tests.servers import SCHNELL, run_command

SMALL = {"width": 256, "height": 256, "image_format": "png", "seed": 7}
PNG_START = b"\x89PNG\r\n\x1a\n"


def test_both_endpoints_draw_with_the_embedded_model(servers, tmp_path):
    server = servers.start(model="demo")
    job = server.wait_status(server.submit(num_inference_steps=2, **SMALL), "COMPLETED")
    picture = httpx.get(job["output"]["image_url"])
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(PNG_START)
    url = f"{server.url}/v2/{SCHNELL}/runsync"
    reply = server.client.post(url, json={"input": {"prompt": "a lake"} | SMALL})
    assert reply.json()["status"] == "COMPLETED"
    # The command line draws the same bytes as the server.
    arguments = ["--width=256", "--height=256", "--steps=2", "--seed=7", "-o", "lake.png"]
    done = run_command("generate", "a lake", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lake.png").read_bytes() == picture.content
