"""Pictures to draw from, in the words of every dialect: the same job, or an error before there is one."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.conftest import DEADLINE_S, Gateway, HandWorker

pytestmark = pytest.mark.anyio

LAKE = {"prompt": "a lake"}
Ask = Callable[[Gateway, bytes, bytes], Awaitable[httpx.Response]]


def file_of(mode: str = "RGB", colour: Any = "red") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (640, 384), colour).save(file, "PNG")
    return file.getvalue()


def bare(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes) -> str:
    return f"data:image/png;base64,{bare(data)}"


def form(image: bytes, mask: bytes, **texts: str) -> dict[str, Any]:
    # As the clients name their files: the bytes alone say what they are.
    files = [("image[]", ("upload", image, "application/octet-stream"))]
    files += [("mask", ("blob", mask, "application/octet-stream"))] if mask else []
    return {"data": LAKE | texts, "files": files}


async def edited(gateway: Gateway, image: bytes, mask: bytes) -> httpx.Response:
    texts = {"strength": "0.5", "seed": "7", "n": "1", "guidance": "3"}
    return await gateway.client.post("/v1/images/edits", **form(image, mask, **texts))


def posted(path: str, body: Callable[[bytes, bytes], dict[str, Any]]) -> Ask:
    async def ask(gateway: Gateway, image: bytes, mask: bytes) -> httpx.Response:
        return await gateway.post(path, body(image, mask))

    return ask


def beside(image: str, mask: str, strength: str = "strength", as_text: Callable[[bytes], str] = url) -> Any:
    return lambda one, other: LAKE | {image: as_text(one), mask: as_text(other), strength: 0.5}


DIALECTS: dict[str, tuple[Ask, int]] = {
    "openai": (edited, 400),
    "openai-json": (posted("/v1/images/edits", beside("image", "mask")), 400),
    "together": (posted("/v1/images/generations", beside("image_url", "mask_url")), 400),
    "huggingface": (
        posted(
            "/hf/flux-dev",
            lambda image, mask: {"inputs": bare(image), "parameters": LAKE | {"mask": bare(mask), "strength": 0.5}},
        ),
        400,
    ),
    "bfl": (posted("/v1/flux-dev", beside("input_image", "mask", as_text=bare)), 400),
    "replicate": (
        posted(
            "/v1/models/black-forest-labs/flux-dev/predictions",
            lambda image, mask: {"input": beside("image", "mask", "prompt_strength")(image, mask)},
        ),
        422,
    ),
    "fal-run": (posted("/fal/run/fal-ai/flux/dev/image-to-image", beside("image_url", "mask_url")), 422),
    "fal-queue": (posted("/fal/queue/fal-ai/flux/dev/image-to-image", beside("image_url", "mask_url")), 422),
    "a1111": (
        posted(
            "/sdapi/v1/img2img",
            lambda image, mask: LAKE | {"init_images": [url(image)], "mask": bare(mask), "denoising_strength": 0.5},
        ),
        422,
    ),
}


async def drawn(gateway: Gateway, worker: HandWorker, asking: Awaitable[httpx.Response]) -> dict[str, Any]:
    """The job that a request becomes, once it has been drawn and answered."""
    task = asyncio.ensure_future(asking)
    job = None
    async with asyncio.timeout(DEADLINE_S):
        while job is None:
            assert not (task.done() and task.result().is_error), task.result().text
            job = await worker.take()
        await worker.finish(job)
        assert (await task).is_success, (await task).text
    return job["input"]


async def kept(gateway: Gateway, picture: dict[str, Any]) -> Image.Image:
    data = b"".join([piece async for piece in gateway.services.images.read(picture["key"])])
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_picture_a_mask_and_a_strength_are_understood(
    gateway: Gateway, worker: HandWorker, dialect: str
) -> None:
    ask, status_code = DIALECTS[dialect]
    asked = await drawn(gateway, worker, ask(gateway, file_of(), file_of("L", "white")))
    assert (asked["image"]["width"], asked["width"], asked["height"]) == (640, 640, 384)
    assert (asked["strength"], (await kept(gateway, asked["mask"])).getpixel((0, 0))) == (0.5, 255)
    reply = await ask(gateway, b"GIF89a", b"")
    assert (reply.status_code, "is no jpeg, png or webp file" in reply.text) == (status_code, True), reply.text
    assert await worker.take() is None


async def test_a_form_is_the_same_request_as_json(gateway: Gateway, worker: HandWorker) -> None:
    asked = await drawn(gateway, worker, edited(gateway, file_of(), b""))
    assert (asked["seed"], asked["guidance"], asked["mask"]) == (7, 3.0, None)
    texts = {"size": "512x512", "response_format": "url", "output_format": "webp", "user": "7"}
    asked = await drawn(gateway, worker, gateway.client.post("/v1/images/edits", **form(file_of(), b"", **texts)))
    assert (asked["width"], asked["image_format"]) == (512, "webp")


async def test_what_is_transparent_in_the_mask_of_an_edit_is_drawn_anew(gateway: Gateway, worker: HandWorker) -> None:
    mask = file_of("RGBA", (255, 255, 255, 64))
    asked = await drawn(gateway, worker, gateway.client.post("/v1/images/edits", **form(file_of(), mask)))
    assert (await kept(gateway, asked["mask"])).getpixel((0, 0)) == 191
    # All that it marks.
    assert asked["strength"] == 1.0


async def test_several_pictures_of_an_edit_share_the_one_that_they_are_drawn_from(
    gateway: Gateway, worker: HandWorker
) -> None:
    asking = asyncio.create_task(gateway.client.post("/v1/images/edits", **form(file_of(), b"", n="2", seed="1")))
    jobs: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(jobs) < 2:
            if job := await worker.take():
                jobs.append(job)
                await worker.finish(job)
        assert len((await asking).json()["data"]) == 2
    assert [job["input"]["seed"] for job in jobs] == [1, 2]
    assert jobs[0]["input"]["image"] == jobs[1]["input"]["image"]


async def test_an_edit_is_streamed_under_names_of_its_own(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.client.post("/v1/images/edits", **form(file_of(), b"", stream="true")))
    await worker.finish(await worker.take_next())
    text = (await asyncio.wait_for(asking, DEADLINE_S)).text
    assert "event: image_edit.completed" in text


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        ({"data": LAKE, "files": [("mask", ("m", b"x"))]}, "image is required"),
        ({"data": LAKE, "files": [("image", ("a", b"x")), ("image[]", ("b", b"x"))]}, "image must be one picture"),
        ({"data": LAKE, "files": [("markup", ("a", b"x"))]}, "markup is not taken here"),
        ({"data": LAKE | {"n": "many"}, "files": [("image", ("a", b"x"))]}, "n must be an integer"),
        ({"data": LAKE | {"loras[][scale]": "1"}, "files": [("image", ("a", b"x"))]}, "a path for each scale"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, "must be multipart/form-data"),
        ({"content": b"nonsense", "headers": {"Content-Type": "text/plain"}}, "must be multipart/form-data"),
        ({"json": LAKE}, "image is required"),
    ],
)
async def test_a_wrong_form_is_told(
    gateway: Gateway, worker: HandWorker, request_of: dict[str, Any], words: str
) -> None:
    reply = await gateway.client.post("/v1/images/edits", **request_of)
    assert (reply.status_code, words in reply.json()["error"]["message"]) == (400, True), reply.text
    assert await worker.take() is None


@pytest.mark.parametrize(
    ("dialect", "fields", "strength"),
    [
        ("/fal/queue/fal-ai/flux/dev/image-to-image", {"image_url": url(file_of())}, 0.95),
        ("/v1/models/black-forest-labs/flux-dev/predictions", {"image": url(file_of()), "megapixels": "1"}, 0.8),
        ("/sdapi/v1/img2img", {"init_images": [url(file_of())]}, 0.75),
        ("/v1/images/generations", {"image_url": url(file_of())}, 0.6),
    ],
)
async def test_where_nothing_is_said_the_strength_is_that_of_the_dialect_and_the_size_that_of_the_picture(
    gateway: Gateway, worker: HandWorker, dialect: str, fields: dict[str, Any], strength: float
) -> None:
    body = {"input": LAKE | fields} if "predictions" in dialect else LAKE | fields
    asked = await drawn(gateway, worker, gateway.post(dialect, body))
    assert (asked["strength"], asked["width"], asked["height"]) == (strength, 640, 384)


async def test_fal_wants_a_picture_where_its_path_says_so(gateway: Gateway) -> None:
    reply = await gateway.post("/fal/run/fal-ai/flux/dev/image-to-image", LAKE)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", "image_url"])
