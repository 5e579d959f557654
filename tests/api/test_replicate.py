"""Replicate's predictions: what its clients read."""

import asyncio
import base64
from typing import Any

import pytest

from flux_endpoint.core.image_formats import IMAGE_FORMATS
from tests.api.conftest import DEADLINE_S, PUBLIC_URL, Gateway, HandWorker, picture_in
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio

CREATE = "/v1/models/black-forest-labs/flux-dev/predictions"
LAKE = {"prompt": "a lake"}


async def created(gateway: Gateway, **fields: object) -> dict[str, Any]:
    reply = await gateway.post(CREATE, {"input": LAKE | fields})
    assert reply.status_code == 201, reply.text
    return reply.json()


async def test_a_prediction_from_start_to_end(gateway: Gateway, worker: HandWorker) -> None:
    made = await created(gateway, width=512, height=256, num_outputs=1, guidance=2, seed=9, go_fast=True)
    assert (made["status"], made["model"], made["output"], made["error"]) == (
        "starting",
        "black-forest-labs/flux-dev",
        None,
        None,
    )
    here = f"{PUBLIC_URL}/v1/predictions/{made['id']}"
    assert made["urls"] == {"get": here, "cancel": f"{here}/cancel", "stream": f"{here}/stream"}
    job = await worker.take_next()
    asked = {key: job["input"][key] for key in ("width", "height", "guidance", "seed", "image_format")}
    assert asked == {"width": 512, "height": 256, "guidance": 2.0, "seed": 9, "image_format": "webp"}
    await worker.send(job, {"step": 14, "total": 28})
    running = (await gateway.get(here)).json()
    assert (running["status"], running["logs"]) == ("processing", " 50%|#####     | 14/28 [00:00<00:00]\n")
    await worker.finish(job)
    ended = (await gateway.get(here)).json()
    assert ended["status"] == "succeeded"
    data = base64.b64encode(picture_in(IMAGE_FORMATS["webp"])).decode()
    assert ended["output"] == [f"data:image/webp;base64,{data}"]
    assert ended["completed_at"].endswith("Z")
    listed = (await gateway.get("/v1/predictions")).json()
    assert [one["id"] for one in listed["results"]] == [made["id"]]


async def test_behind_tls_the_output_is_a_link(gateway: Gateway, worker: HandWorker) -> None:
    made = await created(gateway)
    await worker.finish(await worker.take_next())
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "flux.example"}
    [link] = (await gateway.get(f"/v1/predictions/{made['id']}", headers=headers)).json()["output"]
    assert link.startswith("https://flux.example/images/")


async def test_prefer_wait_holds_until_the_end(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(CREATE, {"input": LAKE}, headers={"Prefer": "wait=30"}))
    await worker.finish(await worker.take_next())
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, reply.json()["status"]) == (201, "succeeded")
    # The shortest wait: what is not over by then says `starting`, also while a worker draws.
    asking = asyncio.create_task(gateway.post(CREATE, {"input": LAKE}, headers={"Prefer": "wait=1"}))
    await worker.take_next()
    assert (await asyncio.wait_for(asking, DEADLINE_S)).json()["status"] == "starting"


async def test_the_end_of_what_failed_or_was_cancelled(gateway: Gateway, worker: HandWorker) -> None:
    made = await created(gateway)
    await worker.done(await worker.take_next(), {"error": "no paint"})
    failed = (await gateway.get(f"/v1/predictions/{made['id']}")).json()
    assert (failed["status"], "no paint" in failed["error"]) == ("failed", True)
    made = await created(gateway)
    assert (await gateway.post(f"/v1/predictions/{made['id']}/cancel")).json()["status"] == "canceled"


async def test_a_version_is_known_by_id_and_by_name(gateway: Gateway) -> None:
    version = (await created(gateway))["version"]
    for name in (version, "black-forest-labs/flux-dev", f"black-forest-labs/flux-dev:{version}"):
        reply = await gateway.post("/v1/predictions", {"version": name, "input": LAKE})
        assert (reply.status_code, reply.json()["version"]) == (201, version), name
    described = (await gateway.get(f"/v1/models/black-forest-labs/flux-dev/versions/{version}")).json()
    assert {"id", "created_at", "cog_version", "openapi_schema"} <= described.keys()
    reply = await gateway.post("/v1/predictions", {"version": "stability/sdxl", "input": LAKE})
    assert (reply.status_code, "served: flux-dev" in reply.json()["detail"]) == (404, True)
    assert reply.json()["title"].endswith("is not served here")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "the key 'input'"),
        ({"input": {"auth": "secret-token"}}, "prompt is required"),
        ({"input": LAKE | {"num_outputs": 4}}, "num_outputs must be 1"),
        ({"input": LAKE | {"image": "data:,x"}}, "image must be a data: URL in base64"),
        ({"input": LAKE | {"image_prompt": "https://x/y.png"}}, "image_prompt needs FLUX.1 Redux"),
        ({"input": LAKE | {"megapixels": "2"}}, "megapixels must be"),
        ({"input": LAKE | {"aspect_ratio": "x"}}, "aspect_ratio must be"),
        ({"input": LAKE | {"aspect_ratio": "x", "width": 256}}, "aspect_ratio must be"),
        ({"input": LAKE | {"size": "big"}}, "size must be"),
        ({"input": LAKE | {"output_format": "tiff"}}, "output_format must be"),
        ({"input": LAKE | {"num_inference_steps": 51}}, "num_inference_steps must be between"),
        ({"input": LAKE, "webhook": "ftp://x"}, "webhook"),
        ({"input": LAKE, "webhook_events_filter": ["end"]}, "webhook_events_filter must be a list of 'start'"),
        ({"input": LAKE, "webhook_events_filter": "completed"}, "webhook_events_filter must be a list of 'start'"),
    ],
)
async def test_what_is_wrong_is_422_and_nothing_is_repeated(
    gateway: Gateway, worker: HandWorker, body: object, words: str
) -> None:
    reply = await gateway.post(CREATE, body)
    assert reply.status_code == 422
    assert words in reply.json()["detail"]
    assert "secret-token" not in reply.text
    assert await worker.take() is None


@pytest.mark.parametrize(
    ("fields", "sides"),
    [
        ({"aspect_ratio": "16:9"}, (1344, 768)),
        ({"aspect_ratio": "1:1", "megapixels": "0.25"}, (512, 512)),
        ({"megapixels": "0.25"}, (512, 512)),
        ({"size": "640x480"}, (640, 480)),
        ({"width": 300, "height": 400, "aspect_ratio": "16:9"}, (300, 400)),
    ],
)
async def test_sizes_by_shape(
    gateway: Gateway, worker: HandWorker, fields: dict[str, object], sides: tuple[int, int]
) -> None:
    await created(gateway, **fields)
    job = await worker.take_next()
    assert (job["input"]["width"], job["input"]["height"]) == sides


async def test_files_are_501_so_that_clients_send_data_instead(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/files", {})
    assert (reply.status_code, "data URIs" in reply.json()["detail"]) == (501, True)


async def test_a_webhook_is_told_a_prediction(gateway: Gateway, worker: HandWorker) -> None:
    body = {"input": LAKE, "webhook": "https://receiver.example/hook"}
    made = (await gateway.post(CREATE, body)).json()
    await worker.finish(await worker.take_next())
    await gateway.send_due()
    [sent] = gateway.sender.sent
    assert (sent.json["id"], sent.json["status"]) == (made["id"], "succeeded")
    assert sent.json["output"][0].startswith(f"{PUBLIC_URL}/images/")
    assert sent.headers["webhook-signature"].startswith("v1,")
    reply = await gateway.post(CREATE, body | {"webhook_events_filter": ["start"]})
    assert reply.headers["x-warning"] == "webhook_events_filter: of the events only 'completed' is told here"
    await gateway.post(CREATE, body | {"webhook_events_filter": ["completed"]})
    for _ in range(2):
        await worker.finish(await worker.take_next())
    await gateway.send_due()
    assert len(gateway.sender.sent) == 2


async def test_a_stream_needs_no_key_and_ends(gateway: Gateway, worker: HandWorker) -> None:
    made = await created(gateway)
    client = Onlooker(gateway, f"/v1/predictions/{made['id']}/stream", authorization="")
    job = await worker.take_next()
    await worker.send(job, {"step": 7, "total": 28})
    assert "event: logs" in await client.block()
    await worker.finish(job)
    output, done = await client.block(), await client.block()
    assert output.startswith("event: output\nid: ")
    assert "data: data:image/webp;base64," in output
    assert done.startswith("event: done\nid: ")
    assert await client.piece() == ""


async def test_events_have_no_character_that_clients_take_for_the_end_of_a_line(
    gateway: Gateway, worker: HandWorker
) -> None:
    made = await created(gateway)
    client = Onlooker(gateway, f"/v1/predictions/{made['id']}/stream", authorization="")
    await worker.done(await worker.take_next(), {"error": "no\u2028paint\x85left"})
    error = await client.block()
    assert error.startswith("event: error\nid: ")
    assert error.isascii()
    assert "no\\u2028paint\\u0085left" in error


async def test_only_what_came_by_it_can_be_read(gateway: Gateway) -> None:
    other = (await gateway.post("/v1/flux-dev", LAKE)).json()["id"]
    for path in (f"/v1/predictions/{other}", f"/v1/predictions/{other}/stream", "/v1/predictions/no-such"):
        assert (await gateway.get(path)).status_code == 404
    assert (await gateway.post(f"/v1/predictions/{other}/cancel")).status_code == 404
