"""OpenAI's official Python client, unmodified, against a running server: only the base URL is changed."""

import base64
import io
import threading

import httpx
import openai
import pytest
from PIL import Image

from flux_endpoint.core.marks import parameters_in
from tests.servers import DEV, Server, wait_until

SMALL = {"model": "flux-dev", "prompt": "a lake", "size": "256x256"}


def client_of(server: Server, **options: object) -> openai.OpenAI:
    key = (server.data_dir / "api-key").read_text().strip()
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, **options)


def test_a_picture_and_the_same_again(server: Server) -> None:
    with client_of(server) as client:
        first, again = (client.images.generate(**SMALL, extra_body={"seed": 7, "steps": 2}) for _ in range(2))
    [picture] = first.data
    data = base64.b64decode(picture.b64_json)
    assert parameters_in(data)["seed"] == 7
    assert httpx.get(picture.url).content == data
    assert again.data[0].b64_json == picture.b64_json
    assert (first.size, first.output_format) == ("256x256", "png")


def test_several_pictures_and_the_list_of_models(server: Server) -> None:
    with client_of(server) as client:
        answer = client.images.generate(**SMALL, n=3, output_format="jpeg", extra_body={"seed": 1})
        assert [model.id for model in client.models.list()] == ["flux-dev", "flux-schnell"]
    assert [one.seed for one in answer.data] == [1, 2, 3]
    assert all(base64.b64decode(one.b64_json).startswith(b"\xff\xd8") for one in answer.data)


def test_a_stream_of_partial_images(slow_server: Server) -> None:
    with client_of(slow_server) as client:
        events = list(client.images.generate(**SMALL, stream=True, partial_images=2, extra_body={"steps": 6}))
    assert events[-1].type == "image_generation.completed"
    assert base64.b64decode(events[-1].b64_json).startswith(b"\x89PNG")
    assert {event.type for event in events[:-1]} <= {"image_generation.partial_image"}


def test_what_is_wrong_reaches_the_caller(server: Server) -> None:
    with (
        client_of(server) as client,
        pytest.raises(openai.BadRequestError, match="size must be between 256") as caught,
    ):
        client.images.generate(model="flux-dev", prompt="a lake", size="100x100")
    assert (caught.value.param, caught.value.type) == ("size", "invalid_request_error")
    with client_of(server) as client, pytest.raises(openai.NotFoundError, match="served: flux-dev, flux-schnell"):
        client.images.generate(model="dall-e-3", prompt="a lake")
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_client_that_gives_up_takes_its_job_along(slow_server: Server) -> None:
    with client_of(slow_server, timeout=1.0, max_retries=0) as client, pytest.raises(openai.APITimeoutError):
        client.images.generate(**SMALL, extra_body={"steps": 50})

    def jobs() -> dict[str, int]:
        return slow_server.health()["jobs"]

    wait_until(lambda: jobs()["inProgress"] == jobs()["inQueue"] == 0, "the end of the job")
    assert jobs()["completed"] == 0


def test_a_cancelled_job_is_told_at_once_and_not_tried_again(slow_server: Server) -> None:
    caught: list[openai.APIStatusError] = []

    def ask() -> None:
        with client_of(slow_server) as client:
            try:
                client.images.generate(**SMALL, extra_body={"steps": 50})
            except openai.APIStatusError as error:
                caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: slow_server.health()["jobs"]["inProgress"] == 1, "a running job")
    key = (slow_server.data_dir / "api-key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    [job] = httpx.get(f"{slow_server.url}/v2/{DEV}/requests", headers=headers).json()["requests"]
    httpx.post(f"{slow_server.url}/v2/{DEV}/cancel/{job['id']}", headers=headers)
    asking.join(timeout=60)
    [error] = caught
    assert "cancelled" in error.message
    assert slow_server.health()["jobs"]["inQueue"] == 0


def test_a_picture_is_drawn_from_one_and_again_where_the_mask_is_transparent(server: Server) -> None:
    image, mask = file_of(Image.new("RGB", (320, 256), "red")), file_of(Image.new("RGBA", (320, 256), (0, 0, 0, 0)))
    with client_of(server) as client:
        edited = client.images.edit(image=image, mask=mask, prompt="a lake", extra_body={"seed": 7, "strength": 0.5})
        [picture] = edited.data
        told = parameters_in(base64.b64decode(picture.b64_json))
        assert (edited.size, told["seed"], told["strength"]) == ("320x256", 7, 0.5)
        assert told["source_image"] != told["source_mask"]
        events = list(client.images.edit(image=[image], prompt="a lake", stream=True))
        assert events[-1].type == "image_edit.completed"
        with pytest.raises(openai.BadRequestError, match="image is no jpeg, png or webp file"):
            client.images.edit(image=b"GIF89a", prompt="a lake")


def file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
