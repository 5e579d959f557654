"""fal's queue and sync routes: what its clients read."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from flux_endpoint.core.image_formats import IMAGE_FORMATS
from tests.api.conftest import API_KEY, DEADLINE_S, DEV, PUBLIC_URL, Gateway, HandWorker, picture_in
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio

SYNC = "/fal/run/fal-ai/flux/dev"
QUEUE = "/fal/queue/fal-ai/flux/dev"
LAKE = {"prompt": "a lake"}
JPEG_URI = f"data:image/jpeg;base64,{base64.b64encode(picture_in(IMAGE_FORMATS['jpeg'])).decode()}"


async def submitted(gateway: Gateway, **fields: object) -> dict[str, Any]:
    reply = await gateway.post(QUEUE, LAKE | fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-fal-request-id"] == reply.json()["request_id"]
    return reply.json()


async def test_a_request_from_start_to_end(gateway: Gateway, worker: HandWorker) -> None:
    made = await submitted(gateway, image_size={"width": 500, "height": 300}, seed=9, num_inference_steps=9)
    here = f"{PUBLIC_URL}/fal/queue/fal-ai/flux/requests/{made['request_id']}"
    assert made == {
        "request_id": made["request_id"],
        "status": "IN_QUEUE",
        "queue_position": 0,
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
    }
    waiting = (await gateway.get(made["status_url"])).json()
    assert (waiting["status"], waiting["queue_position"]) == ("IN_QUEUE", 0)
    job = await worker.take_next()
    asked = {key: job["input"][key] for key in ("width", "height", "num_inference_steps", "seed", "image_format")}
    assert asked == {"width": 500, "height": 300, "num_inference_steps": 9, "seed": 9, "image_format": "jpeg"}
    early = await gateway.get(here)
    assert (early.status_code, early.json()["detail"]) == (400, early.json()["message"])
    await worker.send(job, {"step": 3, "total": 9})
    for logs, lines in (("1", ["step 3 of 9"]), ("true", ["step 3 of 9"]), ("0", None), ("false", None)):
        running = (await gateway.get(f"{made['status_url']}?logs={logs}")).json()
        assert running["status"] == "IN_PROGRESS"
        assert (running["logs"] and [line["message"] for line in running["logs"]]) == lines
    await worker.finish(job)
    ended = await gateway.get(made["status_url"])
    assert ended.headers["x-fal-request-id"] == made["request_id"]
    assert (ended.json()["status"], ended.json()["logs"], "error" in ended.json()) == ("COMPLETED", None, False)
    result = (await gateway.get(here)).json()
    [image] = result["images"]
    assert (image["width"], image["height"], image["content_type"]) == (500, 300, "image/jpeg")
    assert (result["seed"], result["prompt"], result["has_nsfw_concepts"]) == (9, "a lake", [False])
    assert (await gateway.client.get(image["url"], headers={"Authorization": "wrong"})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "sides"),
    [
        ({}, (1024, 768)),
        ({"image_size": "portrait_16_9"}, (576, 1024)),
        ({"image_size": {"width": 512}}, (512, 1024)),
        ({"image_size": "640x480"}, (640, 480)),
        ({"image_size": "square", "width": 300, "height": 400}, (300, 400)),
    ],
)
async def test_sizes(gateway: Gateway, worker: HandWorker, fields: dict[str, object], sides: tuple[int, int]) -> None:
    await submitted(gateway, **fields)
    job = await worker.take_next()
    assert (job["input"]["width"], job["input"]["height"]) == sides


async def test_the_sync_route_answers_with_pictures(gateway: Gateway, worker: HandWorker) -> None:
    body = LAKE | {"num_images": 2, "seed": 2**32 + 6, "sync_mode": True}
    asking = asyncio.create_task(gateway.post(SYNC, body))
    for seed in (6, 7):
        job = await worker.take_next()
        assert job["input"]["seed"] == seed
        await worker.finish(job)
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, reply.json()["seed"]) == (200, 6)
    assert [image["url"] for image in reply.json()["images"]] == [JPEG_URI] * 2


async def test_a_client_that_hangs_up_cancels_its_pictures(gateway: Gateway, worker: HandWorker) -> None:
    client = Onlooker(gateway, SYNC, LAKE)
    job = await worker.take_next()
    client.leave()
    await asyncio.wait_for(client.task, DEADLINE_S)
    assert (await gateway.get(f"{DEV}/status/{job['id']}")).json()["status"] == "CANCELLED"


async def test_what_failed_is_completed_and_its_result_an_error(gateway: Gateway, worker: HandWorker) -> None:
    made = await submitted(gateway)
    await worker.done(await worker.take_next(), {"error": "no paint"})
    ended = (await gateway.get(made["status_url"])).json()
    assert (ended["status"], ended["error_type"]) == ("COMPLETED", "runner_server_error")
    result = await gateway.get(made["response_url"])
    assert (result.status_code, result.headers["x-fal-error-type"]) == (500, "runner_server_error")
    assert "no paint" in result.json()["detail"]
    assert result.json()["message"] == result.json()["detail"]
    asking = asyncio.create_task(gateway.post(SYNC, LAKE))
    await worker.done(await worker.take_next(), {"error": "no paint"})
    assert (await asyncio.wait_for(asking, DEADLINE_S)).status_code == 500


async def test_what_took_too_long_is_not_asked_for_again(gateway: Gateway, worker: HandWorker) -> None:
    made = await submitted(gateway)
    await worker.take_next()
    gateway.clock.advance(ms=700_000)
    await gateway.janitor.sweep()
    result = await gateway.get(made["response_url"])
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")


async def test_a_cancelled_request_is_completed_too(gateway: Gateway) -> None:
    made = await submitted(gateway)
    for status_code, word in ((202, "CANCELLATION_REQUESTED"), (400, "ALREADY_COMPLETED")):
        reply = await gateway.client.put(made["cancel_url"])
        assert (reply.status_code, reply.json()["status"]) == (status_code, word)
    assert (await gateway.get(made["status_url"])).json()["status"] == "COMPLETED"
    result = await gateway.get(made["response_url"])
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    reply = await gateway.client.put("/fal/queue/fal-ai/flux/requests/no-such/cancel")
    assert (reply.status_code, reply.json()["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompt": None}, "prompt", "prompt is required"),
        ({"image_size": "huge"}, "image_size", "image_size must be 'square_hd'"),
        ({"image_size": {"width": 100}}, "width", "width must be between 256 and 1536"),
        ({"num_images": 2}, "num_images", "must be 1 here"),
        ({"num_images": 9}, "num_images", "must be between 1 and 4"),
        ({"sync_mode": 1}, "sync_mode", "must be true or false"),
        ({"image_url": "data:,x"}, "image_url", "must be a data: URL in base64"),
        ({"image_urls": ["data:,x"]}, "image_urls", "is not taken here"),
        ({"output_format": "bmp"}, "output_format", "must be"),
    ],
)
async def test_what_is_wrong_is_422_and_names_the_field(
    gateway: Gateway, worker: HandWorker, fields: dict[str, object], field: str, words: str
) -> None:
    reply = await gateway.post(QUEUE, LAKE | fields)
    assert reply.status_code == 422
    [problem] = reply.json()["detail"]
    assert (problem["loc"], problem["msg"]) == (["body", field], reply.json()["message"])
    assert words in problem["msg"]
    assert await worker.take() is None


@pytest.mark.parametrize("app", ["fal-ai/flux-pro", "fal-ai/flux/turbo", "fal-ai/flux/dev/redux"])
@pytest.mark.parametrize("place", ["run", "queue"])
async def test_other_models_are_refused_in_words(gateway: Gateway, place: str, app: str) -> None:
    reply = await gateway.post(f"/fal/{place}/{app}", LAKE)
    assert (reply.status_code, "served" in reply.json()["detail"]) == (404, True)


async def test_a_priority_and_a_webhook(gateway: Gateway, worker: HandWorker) -> None:
    hook = "?fal_webhook=https://receiver.example/hook"
    for headers in ({"x-fal-queue-priority": "low"}, {}):
        made = (await gateway.post(QUEUE + hook, LAKE, headers=headers)).json()
        spec = gateway.services.endpoints.spec("black-forest-labs-flux-1-dev")
        job = await gateway.services.endpoints.store.get(spec.endpoint_id, made["request_id"])
        assert job.policy.low_priority is bool(headers)
    await worker.finish(await worker.take_next())
    await worker.done(await worker.take_next(), {"error": "no paint"})
    await gateway.send_due()
    drawn, failed = sorted((sent.json for sent in gateway.sender.sent), key=lambda body: body["status"], reverse=True)
    assert (drawn["status"], failed["status"]) == ("OK", "ERROR")
    assert drawn["payload"]["images"][0]["url"].startswith(f"{PUBLIC_URL}/images/")
    assert "no paint" in failed["error"]
    assert failed["request_id"] == failed["gateway_request_id"] == made["request_id"]
    reply = await gateway.post(f"{QUEUE}?fal_webhook=ftp://x", LAKE)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", "fal_webhook"])


async def test_a_request_is_followed_to_its_end(gateway: Gateway, worker: HandWorker) -> None:
    made = await submitted(gateway)
    client = Onlooker(gateway, f"{made['status_url'].removeprefix(PUBLIC_URL)}/stream")
    assert json.loads((await client.block()).removeprefix("data: "))["status"] == "IN_QUEUE"
    job = await worker.take_next()
    assert json.loads((await client.block()).removeprefix("data: "))["status"] == "IN_PROGRESS"
    await worker.finish(job)
    assert json.loads((await client.block()).removeprefix("data: "))["status"] == "COMPLETED"
    assert await client.piece() == ""


async def test_a_stream_ends_with_the_result(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(f"{SYNC}/stream", LAKE | {"seed": 3}))
    job = await worker.take_next()
    await worker.send(job, {"step": 1, "total": 2, "preview": "data:image/jpeg;base64,AAAA"})
    await worker.finish(job)
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    last = json.loads(reply.text.strip().rpartition("data: ")[2])
    assert (last["seed"], last["images"][0]["url"].startswith(f"{PUBLIC_URL}/images/")) == (3, True)
    asking = asyncio.create_task(gateway.post(f"{SYNC}/stream", LAKE))
    await worker.done(await worker.take_next(), {"error": "no paint"})
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert "no paint" in json.loads(reply.text.strip().rpartition("data: ")[2])["detail"]


async def through_the_door(gateway: Gateway, method: str, target: str, **options: Any) -> httpx.Response:
    headers = {"x-fal-target-url": target, "Authorization": f"Key {API_KEY}"} | options.pop("headers", {})
    return await gateway.client.request(method, "/fal/proxy", headers=headers, **options)


async def test_the_door_stands_for_the_hosts_of_fal(gateway: Gateway, worker: HandWorker) -> None:
    queue = "https://queue.fal.run/fal-ai/flux"
    made = await through_the_door(gateway, "POST", f"{queue}/dev?fal_webhook=https://x.example/", json=LAKE)
    assert made.status_code == 200, made.text
    here = f"{queue}/requests/{made.json()['request_id']}"
    assert (await through_the_door(gateway, "GET", f"{here}/status?logs=1")).json()["status"] == "IN_QUEUE"
    await worker.finish(await worker.take_next())
    assert (await through_the_door(gateway, "GET", here)).json()["prompt"] == "a lake"
    assert (await through_the_door(gateway, "PUT", f"{here}/cancel")).status_code == 400
    await gateway.send_due()
    assert [sent.url for sent in gateway.sender.sent] == ["https://x.example/"]
    upload = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
    reply = await through_the_door(gateway, "POST", upload, json={"content_type": "image/png", "file_name": "a.png"})
    assert (reply.status_code, "files are not kept" in reply.json()["message"]) == (501, True)


async def test_the_door_has_the_errors_and_the_locks_of_what_is_behind(gateway: Gateway) -> None:
    target = "https://fal.run/fal-ai/flux/dev"
    reply = await through_the_door(gateway, "POST", target, json={"prompt": ""})
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", "prompt"])
    reply = await through_the_door(gateway, "POST", target, json=LAKE, headers={"Authorization": "Key wrong"})
    assert (reply.status_code, "message" in reply.json()) == (401, True)
    assert (await through_the_door(gateway, "GET", target)).status_code == 405
    assert (await through_the_door(gateway, "GET", "https://fal.run/")).status_code == 404


@pytest.mark.parametrize(
    "target",
    [
        "",
        "https://evil.example/fal-ai/flux/dev",
        "http://fal.run/fal-ai/flux/dev",
        "https://fal.run:444/fal-ai/flux/dev",
        "https://fal.run@evil.example/",
        "https://[fal.run/",
    ],
)
async def test_the_door_stands_for_nothing_else(gateway: Gateway, target: str) -> None:
    reply = await through_the_door(gateway, "POST", target, json=LAKE)
    assert (reply.status_code, "x-fal-target-url" in reply.json()["detail"]) == (400, True)


async def test_the_door_leads_to_fal_only(gateway: Gateway) -> None:
    for path in ("..%2f..%2fv2/usage", "../../v2/usage", "%2e%2e/../v2/usage", "/v2/usage", "../../openapi.json"):
        assert (await through_the_door(gateway, "GET", f"https://fal.run/{path}")).status_code in (404, 405)


async def test_only_what_came_by_it_can_be_read(gateway: Gateway) -> None:
    other = (await gateway.post("/v1/flux-dev", LAKE)).json()["id"]
    for job_id in (other, "no-such"):
        for path in ("", "/status", "/status/stream"):
            reply = await gateway.get(f"/fal/queue/fal-ai/flux/requests/{job_id}{path}")
            assert (reply.status_code, "message" in reply.json()) == (404, True)
