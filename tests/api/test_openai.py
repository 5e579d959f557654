"""OpenAI's images routes: what their clients read, on the queue, keys and pictures of every other job."""

import asyncio
import base64
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from flux_endpoint.api.app import create_app
from flux_endpoint.core.account import KeyLimits
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.front import Front
from flux_endpoint.core.image_formats import IMAGE_FORMATS
from tests.api.conftest import DEADLINE_S, DEV, PUBLIC_URL, SCHNELL, Gateway, HandWorker, picture_in
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio

GENERATIONS = "/v1/images/generations"
LAKE = {"prompt": "a lake"}
# Of one picture of the default size.
PRICE = Decimal("0.02097152")


async def drawn(gateway: Gateway, worker: HandWorker, body: dict[str, Any], pictures: int = 1) -> tuple[Any, list[Any]]:
    """The answer to a request whose pictures a worker draws, and the jobs that it took for it."""
    asking = asyncio.create_task(gateway.post(GENERATIONS, body))
    jobs = []
    while len(jobs) < pictures:
        if job := await worker.take():
            jobs.append(job)
            await worker.finish(job)
        assert not (asking.done() and len(jobs) < pictures), asking.result().text
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert reply.status_code == 200, reply.text
    return reply.json(), jobs


def event_in(block: str) -> tuple[str, dict[str, Any]]:
    """The name and the data of one message of a stream."""
    name, data = block.rstrip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def refused(gateway: Gateway, body: object, status_code: int = 400, **options: Any) -> dict[str, Any]:
    reply = await gateway.post(GENERATIONS, body, **options)
    assert reply.status_code == status_code, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_a_picture_comes_as_bytes_and_as_link_when_no_form_is_asked(gateway: Gateway, worker: HandWorker) -> None:
    body, [job] = await drawn(gateway, worker, {**LAKE, "size": "512x768", "seed": 7, "guidance_scale": 4})
    assert (job["input"]["width"], job["input"]["height"]) == (512, 768)
    assert (job["input"]["seed"], job["input"]["guidance"], job["input"]["image_format"]) == (7, 4.0, "png")
    [picture] = body["data"]
    png = picture_in(IMAGE_FORMATS["png"])
    assert base64.b64decode(picture["b64_json"]) == png
    assert picture["url"].startswith(f"{PUBLIC_URL}/images/")
    assert (await gateway.get(picture["url"])).content == png
    assert (picture["seed"], body["size"], body["output_format"]) == (7, "512x768", "png")
    assert body["cost"] == 0.00786432


@pytest.mark.parametrize(("form", "keys"), [("url", {"url", "seed"}), ("b64_json", {"b64_json", "seed"})])
async def test_the_form_that_is_asked_is_the_only_one(
    gateway: Gateway, worker: HandWorker, form: str, keys: set[str]
) -> None:
    body, _ = await drawn(gateway, worker, {**LAKE, "response_format": form})
    assert set(body["data"][0]) == keys


async def test_seeds_of_several_pictures_follow_one_another(gateway: Gateway, worker: HandWorker) -> None:
    body, jobs = await drawn(gateway, worker, {**LAKE, "n": 3, "seed": 2**32 - 2}, pictures=3)
    assert [picture["seed"] for picture in body["data"]] == [2**32 - 2, 2**32 - 1, 0]
    assert len({job["id"] for job in jobs}) == 3
    assert body["cost"] == pytest.approx(float(3 * PRICE))


async def test_sizes_are_free_and_cost_what_they_show(gateway: Gateway, worker: HandWorker) -> None:
    body, [job] = await drawn(gateway, worker, {**LAKE, "size": "1000x600"})
    assert (job["input"]["width"], job["input"]["height"]) == (1000, 600)
    assert body["cost"] == 0.012
    assert (await refused(gateway, {**LAKE, "size": "1792x1024"}))["param"] == "size"


@pytest.mark.parametrize(
    "model",
    ["flux-schnell", "black-forest-labs-flux-1-schnell", "black-forest-labs/FLUX.1-schnell", "FLUX.1 [schnell]"],
)
async def test_a_model_goes_by_several_names(gateway: Gateway, model: str) -> None:
    schnell = HandWorker(gateway.client, endpoint=SCHNELL)
    _, [job] = await drawn(gateway, schnell, {**LAKE, "model": model})
    assert job["input"]["num_inference_steps"] == 4


async def test_null_is_absent_and_what_has_no_effect_is_said(gateway: Gateway, worker: HandWorker) -> None:
    nothing = dict.fromkeys(("n", "size", "seed", "stream", "user", "response_format", "background", "model"))
    body, _ = await drawn(gateway, worker, {**LAKE, **nothing, "quality": "hd", "moderation": "low"})
    assert body["warnings"] == ["quality has no effect on FLUX"]
    body, _ = await drawn(gateway, worker, {**LAKE, "quality": "auto", "background": "opaque"})
    assert "warnings" not in body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"size": "large"}, "size"),
        ({"size": [1]}, "size"),
        ({"width": 255}, "width"),
        ({"seed": -2}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"steps": 51}, "steps"),
        ({"response_format": "raw"}, "response_format"),
        ({"response_format": ["url"]}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": {}}, "output_format"),
        ({"model": 1}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"partial_images": 4}, "partial_images"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_queued(
    gateway: Gateway, worker: HandWorker, fields: dict[str, Any], param: str
) -> None:
    error = await refused(gateway, {**LAKE, **fields})
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param in error["message"]
    assert await worker.take() is None


async def test_who_may_not_is_told_in_the_same_shape(gateway: Gateway) -> None:
    assert (await refused(gateway, LAKE, 401, headers={"Authorization": "Bearer no"}))["code"] == "invalid_api_key"
    _, reader = await gateway.services.accounts.create("reader", limits=KeyLimits(is_read_only=True))
    await refused(gateway, LAKE, 403, headers={"Authorization": f"Bearer {reader}"})
    schnell_only = KeyLimits(endpoint_ids=frozenset({SCHNELL.removeprefix("/v2/")}))
    _, guest = await gateway.services.accounts.create("guest", limits=schnell_only)
    headers = {"Authorization": f"Bearer {guest}"}
    await refused(gateway, {**LAKE, "model": "flux-dev"}, 403, headers=headers)
    names = [model["id"] for model in (await gateway.get("/v1/models", headers=headers)).json()["data"]]
    assert names == ["flux-schnell"]
    assert "flux-dev, flux-schnell" in (await refused(gateway, {**LAKE, "model": "dall-e-9"}, 404))["message"]


async def test_models_are_listed_and_found(gateway: Gateway) -> None:
    listed = (await gateway.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["flux-dev", "flux-schnell"]
    assert (await gateway.get("/v1/models/flux-schnell")).json() == listed["data"][1]
    assert "error" in (await gateway.get("/v1/models/other")).json()


async def test_what_cannot_be_done_is_404_in_the_same_shape(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/images/variations", {})
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "invalid_request_error")


async def test_a_failed_picture_is_told_and_not_to_be_tried_again(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(GENERATIONS, LAKE))
    job = await worker.take_next()
    await worker.done(job, {"error": "the device is on fire"})
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, reply.headers["x-should-retry"]) == (500, "false")
    assert "the device is on fire" in reply.json()["error"]["message"]


async def test_of_several_the_ones_that_were_drawn_are_answered(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(GENERATIONS, {**LAKE, "n": 2, "seed": 1}))
    for end in (lambda job: worker.done(job, {"error": "no"}), worker.finish):
        await end(await worker.take_next())
    body = (await asyncio.wait_for(asking, DEADLINE_S)).json()
    assert [picture["seed"] for picture in body["data"]] == [2]
    assert len(body["warnings"]) == 1
    assert body["cost"] == float(PRICE)


async def test_all_pictures_are_queued_or_none(gateway: Gateway, worker: HandWorker) -> None:
    limits = KeyLimits(usd_per_month=2 * PRICE)
    _, secret = await gateway.services.accounts.create("poor", limits=limits)
    await refused(gateway, {**LAKE, "n": 3}, 402, headers={"Authorization": f"Bearer {secret}"})
    assert await worker.take() is None


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_hangs_up_cancels_its_pictures(
    gateway: Gateway, worker: HandWorker, is_streamed: bool
) -> None:
    client = Onlooker(gateway, GENERATIONS, {**LAKE, "n": 2, "stream": is_streamed})
    job = await worker.take_next()
    client.leave()
    await asyncio.wait_for(client.task, DEADLINE_S)
    assert await worker.take() is None
    assert (await gateway.get(f"{DEV}/status/{job['id']}")).json()["status"] == "CANCELLED"


async def test_a_stream_has_previews_and_the_picture_and_ends(gateway: Gateway, worker: HandWorker) -> None:
    client = Onlooker(gateway, GENERATIONS, {**LAKE, "stream": True, "partial_images": 2, "seed": 3})
    job = await worker.take_next()
    for number, step in enumerate((3, 6)):
        preview = "data:image/jpeg;base64," + base64.b64encode(bytes([step])).decode()
        await worker.send(job, {"step": step, "total": 9, "preview": preview})
        kind, event = event_in(await client.block())
        assert (kind, event["partial_image_index"]) == ("image_generation.partial_image", number)
        assert base64.b64decode(event["b64_json"]) == bytes([step])
    await worker.finish(job)
    kind, event = event_in(await client.block())
    assert (kind, event["type"], event["seed"]) == ("image_generation.completed", "image_generation.completed", 3)
    assert base64.b64decode(event["b64_json"]) == picture_in(IMAGE_FORMATS["png"])
    assert await client.block() == "data: [DONE]\n\n"
    assert await client.piece() == ""


async def test_a_stream_tells_a_failure_as_an_object(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(GENERATIONS, {**LAKE, "stream": True}))
    job = await worker.take_next()
    await worker.done(job, {"error": "no luck"})
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    [event] = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert "no luck" in event["error"]["message"]


async def test_a_server_speaks_the_dialects_it_is_told_to(gateway: Gateway) -> None:
    headers = gateway.client.headers
    for dialects, status_code in ((("openai",), 200), ((), 404)):
        transport = httpx.ASGITransport(create_app(gateway.services, Front(dialects=dialects)))
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=headers) as client:
            assert (await client.get("/v1/models")).status_code == status_code
            assert (await client.get(f"{DEV}/health")).status_code == 200
    with pytest.raises(
        SettingsError,
        match="DIALECTS: there is no 'klingon'; use all, none, or some of: openai, huggingface, bfl, replicate",
    ):
        create_app(gateway.services, Front(dialects=("klingon",)))
