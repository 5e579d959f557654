"""Hugging Face's wire format: what its clients read."""

import asyncio

import pytest

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from tests.api.conftest import DEADLINE_S, DEV, Gateway, HandWorker, picture_in
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio

DRAW = "/hf/flux-dev"
LAKE = {"inputs": "a lake"}


@pytest.mark.parametrize(
    ("accept", "name"), [("image/png", "png"), ("*/*", "png"), ("image/jpeg, */*", "jpeg"), ("image/webp", "webp")]
)
async def test_the_answer_is_the_bytes_in_the_format_that_is_accepted(
    gateway: Gateway, worker: HandWorker, accept: str, name: str
) -> None:
    parameters = {"width": 500, "height": 300, "guidance_scale": 2, "seed": 2**40 + 3, "negative_prompt": None}
    asking = asyncio.create_task(gateway.post(DRAW, LAKE | {"parameters": parameters}, headers={"Accept": accept}))
    job = await worker.take_next()
    asked = {key: job["input"][key] for key in ("prompt", "width", "height", "guidance", "seed", "image_format")}
    assert asked == {
        "prompt": "a lake",
        "width": 500,
        "height": 300,
        "guidance": 2.0,
        "seed": 2**40 % 2**32 + 3,
        "image_format": name,
    }
    await worker.finish(job)
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, reply.headers["content-type"]) == (200, f"image/{name}")
    assert reply.content == picture_in(IMAGE_FORMATS[name])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "the key 'inputs'"),
        ({}, "the key 'inputs'"),
        ({"inputs": 1}, "inputs must be a string"),
        ({"inputs": "x" * 10_001}, "inputs must be at most 10000 characters"),
        ({"inputs": "AAAA", "parameters": {"prompt": "a lake"}}, "inputs is no jpeg, png or webp file"),
        (LAKE | {"parameters": 1}, "parameters must be a JSON object"),
        (LAKE | {"parameters": {"num_inference_steps": 99}}, "num_inference_steps must be between 1 and 50"),
        (LAKE | {"parameters": {"output_format": "gif"}}, "output_format must be"),
    ],
)
async def test_what_is_wrong_is_said(gateway: Gateway, worker: HandWorker, body: object, words: str) -> None:
    reply = await gateway.post(DRAW, body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]
    assert await worker.take() is None


async def test_a_failed_picture_and_an_unknown_model_are_told(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(DRAW, LAKE))
    await worker.done(await worker.take_next(), {"error": "no paint"})
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, reply.json()["error"][:8]) == (500, "no paint")
    assert (await gateway.post("/hf/other", LAKE)).status_code == 404


async def test_a_client_that_hangs_up_cancels_its_picture(gateway: Gateway, worker: HandWorker) -> None:
    client = Onlooker(gateway, DRAW, LAKE)
    job = await worker.take_next()
    client.leave()
    await asyncio.wait_for(client.task, DEADLINE_S)
    assert (await gateway.get(f"{DEV}/status/{job['id']}")).json()["status"] == "CANCELLED"


async def test_it_never_says_503_which_one_client_repeats_for_ever(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(gateway.stores.jobs, "enqueue", gone)
    reply = await gateway.post(DRAW, LAKE)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
