"""Bad input is refused before it is queued, with one line that names field and limit."""

import json
from typing import Any

import pytest

from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

BAD_FIELDS = [
    ({}, "prompt is required"),
    ({"prompt": ""}, "prompt must not be empty"),
    ({"prompt": " \n\t"}, "prompt must not be empty"),
    ({"prompt": None}, "prompt must be a string"),
    ({"prompt": 7}, "prompt must be a string"),
    ({"prompt": ["a"]}, "prompt must be a string"),
    ({"prompt": "x" * 10_001}, "prompt must be at most 10000 characters, got 10001"),
    ({"prompt": "a\x00b"}, "prompt must not contain the character U+0000"),
    ({"prompt": "a", "negative_prompt": 1}, "negative_prompt must be a string"),
    ({"prompt": "a", "negative_prompt": "x" * 10_001}, "negative_prompt must be at most 10000 characters, got 10001"),
    ({"prompt": "a", "width": 1000}, "width must be divisible by 64"),
    ({"prompt": "a", "height": 1000}, "height must be divisible by 64"),
    ({"prompt": "a", "width": 192}, "width must be between 256 and 1536"),
    ({"prompt": "a", "height": 1600}, "height must be between 256 and 1536"),
    ({"prompt": "a", "width": 10**30}, "width must be between 256 and 1536"),
    ({"prompt": "a", "width": -512}, "width must be between 256 and 1536"),
    ({"prompt": "a", "width": "512"}, "width must be an integer"),
    ({"prompt": "a", "width": 512.5}, "width must be an integer"),
    ({"prompt": "a", "width": True}, "width must be an integer"),
    ({"prompt": "a", "width": 1328, "height": 1024}, "width must be divisible by 64"),
    ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps must be between 1 and 50"),
    ({"prompt": "a", "num_inference_steps": 51}, "num_inference_steps must be between 1 and 50"),
    ({"prompt": "a", "num_inference_steps": "28"}, "num_inference_steps must be an integer"),
    ({"prompt": "a", "guidance": -0.1}, "guidance must be between 0 and 10"),
    ({"prompt": "a", "guidance": 10.01}, "guidance must be between 0 and 10"),
    ({"prompt": "a", "guidance": 10**400}, "guidance must be between 0 and 10"),
    ({"prompt": "a", "guidance": "7.5"}, "guidance must be a number"),
    ({"prompt": "a", "guidance": False}, "guidance must be a number"),
    ({"prompt": "a", "true_cfg_scale": 0.5}, "true_cfg_scale must be between 1 and 10"),
    ({"prompt": "a", "seed": -2}, "seed must be -1 (random) or between 0 and 4294967295"),
    ({"prompt": "a", "seed": 2**32}, "seed must be -1 (random) or between 0 and 4294967295"),
    ({"prompt": "a", "seed": 1.5}, "seed must be an integer"),
    ({"prompt": "a", "image_format": "gif"}, "image_format must be 'jpeg', 'png' or 'webp'"),
    ({"prompt": "a", "image_format": ["png"]}, "image_format must be 'jpeg', 'png' or 'webp'"),
]

BAD_BODIES = [
    (b"", "Invalid request: the body is not valid JSON"),
    (b"{", "Invalid request: the body is not valid JSON"),
    (b"\xff\xfe", "Invalid request: the body is not valid JSON"),
    (b"[" * 100_000, "Invalid request: the body is not valid JSON"),
    (
        b'{"input": {"width": ' + b"9" * 5_000 + b"}}",
        "Invalid request: the body contains a number of more than 4300 digits",
    ),
    (b"[]", "Invalid request: the body must be a JSON object with the key 'input'"),
    (b"null", "Invalid request: the body must be a JSON object with the key 'input'"),
    (b"{}", "Invalid request: the body has no 'input'"),
    (b'{"input": "a lake"}', "Invalid request: 'input' must be a JSON object"),
    (b'{"input": null}', "Invalid request: 'input' must be a JSON object"),
    (b'{"input": {}}', "Invalid parameter: prompt is required"),
    (b'{"input": {"prompt": "a", "guidance": NaN}}', "Invalid request: the body is not valid JSON: it contains NaN"),
    (b'{"input": {"width": -Infinity}}', "Invalid request: the body is not valid JSON: it contains -Infinity"),
    (b'{"input": {"guidance": 1e999}}', "Invalid request: the body contains a number that is too large: 1e999"),
    (
        b'{"input": {"prompt": "\\ud800"}}',
        "Invalid parameter: prompt must be valid Unicode text, without lone surrogates",
    ),
]


async def assert_refused(gateway: Gateway, reply: Any, error: str) -> None:
    assert reply.status_code == 400
    body = reply.json()
    assert body == {"id": body["id"], "status": "FAILED", "error": error}
    # One official client takes any body with an id for an accepted job, and asks for its status.
    status = await gateway.get(f"{DEV}/status/{body['id']}")
    assert (status.status_code, status.json()) == (200, body)


@pytest.mark.parametrize(("fields", "problem"), BAD_FIELDS)
@pytest.mark.parametrize("operation", ["run", "runsync"])
async def test_bad_field_is_named_with_its_limit(
    gateway: Gateway, operation: str, fields: dict[str, Any], problem: str
) -> None:
    reply = await gateway.post(f"{DEV}/{operation}", {"input": fields})
    await assert_refused(gateway, reply, f"Invalid parameter: {problem}")
    assert reply.json()["id"].startswith("sync-") == (operation == "runsync")
    assert (await gateway.stores.jobs.counts(DEV.removeprefix("/v2/"))).in_queue == 0


@pytest.mark.parametrize(("body", "error"), BAD_BODIES)
async def test_bad_body_is_refused_with_a_sentence(gateway: Gateway, body: bytes, error: str) -> None:
    reply = await gateway.client.post(f"{DEV}/runsync", content=body)
    await assert_refused(gateway, reply, error)


@pytest.mark.parametrize(("operation", "limit_mib"), [("run", 10), ("runsync", 20)])
async def test_oversize_body_is_refused(gateway: Gateway, operation: str, limit_mib: int) -> None:
    body = b'{"input": {"prompt": "' + b"x" * (limit_mib * 2**20) + b'"}}'
    reply = await gateway.client.post(f"{DEV}/{operation}", content=body)
    await assert_refused(gateway, reply, f"Invalid request: the body exceeded max body size of {limit_mib}MiB")


async def test_oversize_body_without_length_is_refused(gateway: Gateway) -> None:
    async def pieces() -> Any:
        for _ in range(11):
            yield b" " * 2**20

    reply = await gateway.client.post(f"{DEV}/run", content=pieces())
    await assert_refused(gateway, reply, "Invalid request: the body exceeded max body size of 10MiB")


async def test_defaults_are_the_documented_ones(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(prompt="a lake")
    job = await worker.take()
    assert job is not None
    seed = job["input"].pop("seed")
    assert 0 <= seed < 2**32
    assert job["input"] == {
        "prompt": "a lake",
        "negative_prompt": "",
        "width": 1024,
        "height": 1024,
        "num_inference_steps": 28,
        "guidance": 7.5,
        "true_cfg_scale": 3.0,
        "image_format": "jpeg",
        "acceleration": "none",
    }


async def test_null_asks_for_the_default(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(seed=7)
    job = await worker.take()
    assert job is not None
    await gateway.submit(**{name: None for name in job["input"] if name != "prompt"} | {"seed": 7})
    assert (await worker.take() or {})["input"] == job["input"]
    reply = await gateway.post(f"{DEV}/estimate", {"input": {"prompt": "a lake", "seed": None, "width": None}})
    assert reply.status_code == 200


async def test_schnell_takes_one_to_eight_steps(gateway: Gateway) -> None:
    worker = HandWorker(gateway.client, endpoint=SCHNELL)
    await gateway.submit(SCHNELL)
    job = await worker.take()
    assert job is not None and job["input"]["num_inference_steps"] == 4
    reply = await gateway.post(f"{SCHNELL}/run", {"input": {"prompt": "a", "num_inference_steps": 9}})
    assert reply.json()["error"] == "Invalid parameter: num_inference_steps must be between 1 and 8"


async def test_unknown_keys_are_ignored_everywhere(gateway: Gateway) -> None:
    body = {
        "input": {"prompt": "a", "maxPollAttempts": 3, "pollIntervalMillis": 5, "enable_safety_checker": True},
        "timeout": 60000,
        "webhookV2": "https://example.org",
    }
    reply = await gateway.post(f"{DEV}/run", body)
    assert reply.status_code == 200
    assert reply.json() == {"id": reply.json()["id"], "status": "IN_QUEUE"}


@pytest.mark.parametrize("size", [(1328, 1328), (1472, 1140), (1140, 1472)])
async def test_sizes_an_official_client_sends_by_itself_are_served(gateway: Gateway, size: tuple[int, int]) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a", "width": size[0], "height": size[1]}})
    assert reply.status_code == 200


async def test_whole_floats_count_as_integers(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(width=512.0, seed=3.0)
    job = await worker.take()
    assert job is not None
    assert json.dumps([job["input"]["width"], job["input"]["seed"]]) == "[512, 3]"
