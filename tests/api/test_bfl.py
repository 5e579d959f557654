"""The wire format of Black Forest Labs: what its clients read."""

from typing import Any

import pytest

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.shapes import sides_of
from tests.api.conftest import API_KEY, PUBLIC_URL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

CREATE = "/v1/flux-dev"
LAKE = {"prompt": "a lake"}


async def created(gateway: Gateway, **fields: object) -> dict[str, Any]:
    reply = await gateway.post(CREATE, LAKE | fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_task_is_polled_until_it_is_ready(gateway: Gateway, worker: HandWorker) -> None:
    task = await created(gateway, width=512, height=768, aspect_ratio="1:1", seed=5, steps=9)
    assert task["polling_url"] == f"{PUBLIC_URL}/v1/get_result?id={task['id']}"
    assert (task["cost"], task["output_mp"]) == (0.00786432, 0.393216)
    assert (await gateway.get(task["polling_url"])).json() == {"id": task["id"], "status": "Pending"}
    job = await worker.take()
    assert job is not None
    asked = {key: job["input"][key] for key in ("width", "height", "num_inference_steps", "image_format")}
    assert asked == {"width": 512, "height": 768, "num_inference_steps": 9, "image_format": "jpeg"}
    await worker.send(job, {"step": 3, "total": 9})
    running = (await gateway.get(task["polling_url"])).json()
    assert running == {"id": task["id"], "status": "Pending", "progress": pytest.approx(1 / 3)}
    await worker.finish(job)
    ready = (await gateway.get(task["polling_url"])).json()
    assert (ready["status"], ready["result"]["seed"], ready["result"]["prompt"]) == ("Ready", 5, "a lake")
    assert (await gateway.get(ready["result"]["sample"])).status_code == 200


async def test_a_failed_task_is_an_error(gateway: Gateway, worker: HandWorker) -> None:
    task = await created(gateway)
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no paint"})
    answer = (await gateway.get(task["polling_url"])).json()
    assert (answer["status"], answer["result"]) == ("Error", None)
    assert "no paint" in answer["details"]["error"]


async def test_a_key_may_come_as_x_key(gateway: Gateway) -> None:
    headers = {"Authorization": "", "x-key": API_KEY}
    assert (await gateway.post(CREATE, LAKE, headers=headers)).status_code == 200
    reply = await gateway.post(CREATE, LAKE, headers={"Authorization": "", "x-key": "wrong"})
    assert (reply.status_code, list(reply.json())) == (401, ["detail"])


async def test_only_what_came_by_it_can_be_read(gateway: Gateway) -> None:
    other = await gateway.submit()
    for job_id in (other, "", "flux-dev_no-such", "nonsense"):
        reply = await gateway.get(f"/v1/get_result?id={job_id}")
        assert (reply.status_code, reply.json()) == (404, {"detail": "Task not found"})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "prompt must not be empty"),
        ({"width": 2048}, "width must be between 256 and 1536"),
        ({"aspect_ratio": "wide"}, "aspect_ratio must be two whole numbers"),
        ({"aspect_ratio": "wide", "width": 256}, "aspect_ratio must be two whole numbers"),
        ({"aspect_ratio": "9:1"}, "aspect_ratio asks for"),
        ({"input_image": "abc"}, "input_image is no valid base64"),
        ({"image_prompt": "abc"}, "image_prompt needs FLUX.1 Redux"),
        ({"webhook_url": "https://x/y"}, "webhook_url is not taken here"),
        ({"output_format": "bmp"}, "output_format must be"),
    ],
)
async def test_what_is_wrong_is_said(gateway: Gateway, worker: HandWorker, fields: dict[str, Any], words: str) -> None:
    reply = await gateway.post(CREATE, LAKE | fields)
    assert reply.status_code == 400
    assert words in reply.json()["detail"]
    assert await worker.take() is None


async def test_a_model_that_is_not_served_is_named(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/flux-pro-1.1", LAKE)
    assert reply.status_code == 404
    assert "served: flux-dev, flux-schnell" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("ratio", "sides"),
    [("1:1", (1024, 1024)), ("2:2", (1024, 1024)), ("16:9", (1344, 768)), ("9:16", (768, 1344)), ("3:2", (1280, 832))],
)
def test_shapes_are_about_a_megapixel(ratio: str, sides: tuple[int, int]) -> None:
    assert sides_of(ratio) == sides


@pytest.mark.parametrize("ratio", [None, 1, "", "1", "0:1", "1:0", "a:b", "1:1:1", "-1:1", "1000:999", "٣:٤"])
def test_what_is_no_shape_is_refused(ratio: object) -> None:
    with pytest.raises(InvalidParameter, match="aspect_ratio"):
        sides_of(ratio)
