"""The Python client of A1111's web UI, unmodified, against a running server: only the base URL is changed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import webuiapi
from PIL import Image

from tests.servers import Server, wait_until

SMALL = {"prompt": "a lake", "width": 256, "height": 256, "seed": 7}


@contextmanager
def client_of(server: Server) -> Iterator[webuiapi.WebUIApi]:
    key = (server.data_dir / "api-key").read_text().strip()
    client = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", username="me", password=key)
    yield client
    client.session.close()


def test_a_picture_and_the_same_again(server: Server) -> None:
    with client_of(server) as client:
        first, again = (client.txt2img(**SMALL, batch_size=2) for _ in range(2))
        assert [image.size for image in first.images] == [(256, 256)] * 2
        assert first.json["images"] == again.json["images"]
        assert (first.info["all_seeds"], first.info["steps"], "warnings" in first.info) == ([7, 8], 20, False)
        assert first.info["infotexts"][0].startswith("a lake\nSteps: 20, Sampler: Euler,")
        # It writes the texts of the picture into one of its own before it sends it.
        assert "a lake" in client.png_info(first.image).info


def test_a_model_is_chosen(server: Server) -> None:
    with client_of(server) as client:
        assert client.util_get_model_names() == ["flux-dev", "flux-schnell"]
        assert client.util_get_sampler_names() == ["Euler"]
        client.util_set_model("schnell")
        assert client.util_get_current_model() == "flux-schnell"
        assert client.txt2img(**SMALL).info["sd_model_name"] == "flux-schnell"
        drawn = client.txt2img(**SMALL, override_settings={"sd_model_checkpoint": "flux-dev"})
        assert drawn.info["sd_model_name"] == "flux-dev"
        client.util_set_model("flux-dev")


def test_what_is_wrong_and_what_failed_reach_the_caller(server: Server, failing_server: Server) -> None:
    with client_of(server) as client:
        with pytest.raises(RuntimeError, match="width must be between 256 and 1536"):
            client.txt2img(prompt="a lake", width=1)
        with pytest.raises(RuntimeError, match="enable_hr is not taken here"):
            client.txt2img(**SMALL, enable_hr=True)
    with client_of(failing_server) as client, pytest.raises(RuntimeError, match="no paint"):
        client.txt2img(**SMALL)


def test_a_slow_picture_is_watched_and_interrupted(slow_server: Server) -> None:
    with client_of(slow_server) as client, client_of(slow_server) as onlooker:
        ends: list[Exception] = []

        def draw() -> None:
            try:
                client.txt2img(**SMALL, steps=50)
            except RuntimeError as error:
                ends.append(error)

        drawing = threading.Thread(target=draw)
        drawing.start()
        told = wait_until(lambda: (now := onlooker.get_progress())["progress"] and now, "a step is told")
        assert (told["state"]["job_count"], told["state"]["sampling_steps"]) == (1, 50)
        onlooker.interrupt()
        drawing.join()
        assert ends[0].args[0] == 409
        assert onlooker.get_progress()["state"]["job_count"] == 0


def test_a_picture_is_drawn_from_one_and_again_where_the_mask_is_white(server: Server) -> None:
    red, white = Image.new("RGB", (320, 256), "red"), Image.new("L", (320, 256), "white")
    asked = {"prompt": "a lake", "images": [red], "mask_image": white, "width": 320, "height": 256, "seed": 7}
    with client_of(server) as client:
        drawn = client.img2img(**asked, denoising_strength=0.5)
        assert drawn.image.size == (320, 256)
        assert "Denoising strength: 0.5" in drawn.info["infotexts"][0]
        with pytest.raises(RuntimeError, match="inpainting_mask_invert is not taken here"):
            client.img2img(**asked, inpainting_mask_invert=1)
