"""What a request says and this server does not heed is told in every dialect, or refused where that is preferred."""

import asyncio
from typing import Any

import httpx
import pytest

from flux_endpoint.api.operations import Call
from flux_endpoint.core.errors import InvalidRequest
from tests.api.asking import status
from tests.api.conftest import DEV, ECHO, Gateway, HandWorker

pytestmark = pytest.mark.anyio

STRANGE = {"guidence": 3, "style": "vivid"}
TOLD = ["style has no effect on FLUX", "guidence: did you mean guidance?"]
STRICT = {"Prefer": "handling=strict"}
# How each dialect is asked for a picture with fields beside the prompt, and its status of a wrong request.
REQUESTS: dict[str, tuple[str, Any, int]] = {
    "run": (f"{DEV}/run", lambda fields: {"input": {"prompt": "a lake"} | fields}, 400),
    "runsync": (f"{DEV}/runsync", lambda fields: {"input": {"prompt": "a lake"} | fields}, 400),
    "openai": ("/v1/images/generations", lambda fields: {"prompt": "a lake"} | fields, 400),
    "huggingface": ("/hf/flux-dev", lambda fields: {"inputs": "a lake", "parameters": fields}, 400),
    "bfl": ("/v1/flux-dev", lambda fields: {"prompt": "a lake"} | fields, 400),
    "fal": ("/fal/run/fal-ai/flux/dev", lambda fields: {"prompt": "a lake"} | fields, 422),
    "replicate": (
        "/v1/models/black-forest-labs/flux-dev/predictions",
        lambda fields: {"input": {"prompt": "a lake"} | fields},
        422,
    ),
}


async def ask(
    gateway: Gateway, worker: HandWorker, dialect: str, fields: dict[str, Any], **headers: str
) -> httpx.Response:
    """Ask for a picture and have it drawn; the answer."""
    path, body, _ = REQUESTS[dialect]
    asking = asyncio.create_task(gateway.post(path, body(fields), headers=headers))
    job = None
    while job is None and not asking.done():
        job = await worker.take()
    if job is not None:
        await worker.finish(job)
        await gateway.settle()
    return await asking


@pytest.mark.parametrize("dialect", REQUESTS)
async def test_every_dialect_tells_what_it_does_not_heed_or_refuses_it_if_that_is_preferred(
    gateway: Gateway, worker: HandWorker, dialect: str
) -> None:
    reply = await ask(gateway, worker, dialect, STRANGE)
    assert reply.is_success, reply.text
    assert reply.headers.get_list("x-warning") == TOLD
    reply = await ask(gateway, worker, dialect, {"seed": 1}, **STRICT)
    assert reply.is_success, reply.text
    assert "x-warning" not in reply.headers
    reply = await ask(gateway, worker, dialect, STRANGE, **STRICT)
    assert reply.status_code == REQUESTS[dialect][2]
    assert "; ".join(TOLD) in reply.text
    assert await worker.take() is None


@pytest.mark.parametrize("dialect", [name for name in REQUESTS if not name.startswith("run")])
async def test_where_a_request_is_one_picture_more_are_told_to_be_one(
    gateway: Gateway, worker: HandWorker, dialect: str
) -> None:
    reply = await ask(gateway, worker, dialect, {"num_images_per_prompt": 2})
    one = "one picture is drawn for one request; send one for each, with a seed of its own"
    assert reply.headers["x-warning"] == f"num_images_per_prompt: {one}"
    for wrong in (0, -1, 1.5, "2", [1]):
        reply = await ask(gateway, worker, dialect, {"num_images_per_prompt": wrong})
        assert reply.status_code == REQUESTS[dialect][2]
        assert "num_images_per_prompt must be a whole number from 1" in reply.text
    assert "x-warning" not in (await ask(gateway, worker, dialect, {"num_images_per_prompt": 1})).headers


@pytest.mark.parametrize(
    ("prefer", "is_strict"),
    [
        ("handling=strict", True),
        ("wait=5, Handling = Strict", True),
        ('respond-async; x=1, handling="strict"; y', True),
        ("handling=lenient", False),
        ("handling=stricter", False),
        ("wait", False),
    ],
)
def test_a_preference_is_read_as_its_standard_says(prefer: str, is_strict: bool) -> None:
    call = Call({"type": "http", "headers": [(b"prefer", prefer.encode())]})
    if is_strict:
        with pytest.raises(InvalidRequest):
            call.tell(TOLD)
    else:
        call.tell(TOLD)
        assert call.warnings == tuple(TOLD)


async def test_an_estimate_hears_the_same(gateway: Gateway) -> None:
    body = {"input": {"prompt": "a lake", "size": "512x512", "guidence": 3}}
    reply = await gateway.post(f"{DEV}/estimate", body)
    assert (reply.json()["cost"], reply.headers["x-warning"]) == (0.00524288, TOLD[1])
    assert (await gateway.post(f"{DEV}/estimate", body, headers=STRICT)).status_code == 400


async def test_the_output_of_a_job_names_it_before_the_words_of_the_worker(
    gateway: Gateway, worker: HandWorker
) -> None:
    job_id = await gateway.submit(**STRANGE)
    job = await worker.take()
    assert job is not None
    assert job["input"].keys() >= {"prompt"}
    assert not job["input"].keys() & STRANGE.keys()
    await worker.finish(job, "prompt was cut")
    await gateway.settle()
    assert (await status(gateway, job_id, DEV))["output"]["warnings"] == [*TOLD, "prompt was cut"]


async def test_answers_that_have_a_place_for_it_say_it_again(gateway: Gateway, worker: HandWorker) -> None:
    assert (await ask(gateway, worker, "runsync", STRANGE)).json()["output"]["warnings"] == TOLD
    # Of three pictures it is told once.
    asking = asyncio.create_task(gateway.post("/v1/images/generations", {"prompt": "a", "n": 3, "guidence": 3}))
    for _ in range(3):
        job = await worker.take_next()
        await worker.finish(job)
    assert (await asking).json()["warnings"] == TOLD[1:]
    task = (await ask(gateway, worker, "bfl", STRANGE)).json()
    assert (await gateway.get(task["polling_url"])).json()["warnings"] == TOLD
    prediction = (await ask(gateway, worker, "replicate", STRANGE)).json()
    assert prediction["warnings"] == TOLD
    assert (await gateway.get(prediction["urls"]["get"])).json()["warnings"] == TOLD


async def test_what_stands_beside_the_input_is_told_too(gateway: Gateway) -> None:
    body = {"input": {"prompt": "a lake"}, "webhok": "https://a.example", "policy": {"ttll": 1}}
    told = ["webhok: did you mean webhook?", "policy.ttll: did you mean ttl?"]
    assert (await gateway.post(f"{DEV}/run", body)).headers.get_list("x-warning") == told
    # Of an endpoint of one's own the input may be anything, and the output is left as it is.
    assert (await gateway.post(f"{ECHO}/run", body | {"input": STRANGE})).headers.get_list("x-warning") == told
    refused = await gateway.post(f"{ECHO}/run", body, headers=STRICT)
    assert (refused.status_code, refused.json()["status"]) == (400, "FAILED")
    assert refused.json()["error"] == f"Invalid request: {'; '.join(told)}"


async def test_requests_of_a_batch_say_it_each_and_the_batch_once(gateway: Gateway, worker: HandWorker) -> None:
    requests = [{"input": {"prompt": "a lake"} | fields} for fields in ({}, {"guidence": 1}, {"guidence": 2})]
    told = "request 1 (counted from 0): guidence: did you mean guidance?"
    refused = await gateway.post(f"{DEV}/batch", requests, headers=STRICT)
    assert (refused.status_code, refused.json()["error"]) == (400, f"Invalid request: {told}")
    made = await gateway.post(f"{DEV}/batch", requests)
    assert made.headers.get_list("x-warning") == [told]
    assert (await gateway.post(f"{DEV}/batch/{made.json()['id']}/finalize")).status_code == 200
    for warnings in (None, TOLD[1:], TOLD[1:]):
        job = await worker.take()
        assert job is not None
        await worker.finish(job)
        await gateway.settle()
        assert (await status(gateway, job["id"], DEV))["output"].get("warnings") == warnings


async def test_names_in_any_script_pass_through_headers(gateway: Gateway) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a", "größe\r\nX: y": 1, "尺寸": 2}})
    assert reply.headers.get_list("x-warning") == [
        r"gr\xf6\xdfe\r\nX: y: not known here",
        r"\u5c3a\u5bf8: not known here",
    ]
