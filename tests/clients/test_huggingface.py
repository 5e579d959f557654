"""Hugging Face's official Python client, unmodified, against a running server: only the base URL is changed."""

import io

import pytest
from huggingface_hub import ImageToImageTargetSize, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from tests.servers import Server, wait_until


def client_of(server: Server, **options: object) -> InferenceClient:
    key = (server.data_dir / "api-key").read_text().strip()
    return InferenceClient(base_url=f"{server.url}/hf/flux-dev", token=key, **options)


def test_a_picture_and_the_same_again(server: Server) -> None:
    asked = {"width": 320, "height": 256, "num_inference_steps": 2, "seed": 7}
    first, again = (client_of(server).text_to_image("a lake", **asked) for _ in range(2))
    assert (first.size, first.format) == ((320, 256), "PNG")
    assert "Seed: 7," in first.text["parameters"]
    assert first.tobytes() == again.tobytes()


def test_what_is_wrong_reaches_the_caller(server: Server) -> None:
    with pytest.raises(HfHubHTTPError, match="width must be between 256 and 1536"):
        client_of(server).text_to_image("a lake", width=100)


def test_a_client_that_gives_up_takes_its_job_along(slow_server: Server) -> None:
    with pytest.raises(Exception, match=r"(?i)time"):
        client_of(slow_server, timeout=1).text_to_image("a lake", width=256, height=256, num_inference_steps=50)

    def jobs() -> dict[str, int]:
        return slow_server.health()["jobs"]

    wait_until(lambda: jobs()["inProgress"] == jobs()["inQueue"] == 0, "the end of the job")
    assert jobs()["completed"] == 0


def test_a_picture_is_drawn_from_one(server: Server) -> None:
    file = io.BytesIO()
    Image.new("RGB", (320, 256), "red").save(file, "PNG")
    client = client_of(server)
    drawn = client.image_to_image(file.getvalue(), prompt="a lake", num_inference_steps=4, strength=0.5, seed=7)
    assert (drawn.size, "Denoising strength: 0.5" in drawn.text["parameters"]) == ((320, 256), True)
    drawn = client.image_to_image(
        file.getvalue(), prompt="a lake", target_size=ImageToImageTargetSize(width=256, height=256)
    )
    assert drawn.size == (256, 256)
    with pytest.raises(HfHubHTTPError, match="inputs is no jpeg, png or webp file"):
        client.image_to_image(b"GIF89a", prompt="a lake")
