"""What a worker of somebody else's returns, and what becomes of it (contract section 5.3)."""

import json
from typing import Any

import pytest

from tests.api.asking import status, submit
from tests.api.conftest import DEV, ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("output", [{"a": [None, {"b": None}]}, [], "text", 0, False, 1.5, {}])
async def test_an_output_of_an_endpoint_of_ones_own_is_passed_through(
    gateway: Gateway, third_party: ThirdPartyWorker, output: Any
) -> None:
    job_id = await submit(gateway)
    job = await third_party.take()
    assert (job["id"], job["input"]) == (job_id, {"prompt": "a lake"})
    assert (await third_party.done(job_id, {"output": output})).status_code == 200
    body = await status(gateway, job_id)
    assert body.keys() == {"id", "status", "delayTime", "executionTime", "workerId", "output"}
    assert (body["status"], body["workerId"], body["output"]) == ("COMPLETED", "pod-1", output)
    (entry,) = await gateway.stores.accounts.entries()
    assert (entry.job_id, str(entry.amount_usd)) == (job_id, "0.00100000")


@pytest.mark.parametrize("result", [{}, {"output": None}])
async def test_no_output_is_completed_without_the_key(
    gateway: Gateway, third_party: ThirdPartyWorker, result: object
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    await third_party.done(job_id, result)
    body = await status(gateway, job_id)
    assert body["status"] == "COMPLETED"
    assert "output" not in body


async def test_the_worker_gets_what_the_client_sent_beside_the_input(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    bucket = {"accessId": "a", "accessSecret": "b", "bucketName": "c", "endpointUrl": "https://s3.example.org"}
    policy = {"executionTimeout": 5_000, "ttl": 60_000, "lowPriority": True}
    await submit(gateway, input={}, webhook="https://hook.example.org/x", policy=policy, s3Config=bucket)
    job = await third_party.take()
    assert job["input"] == {}
    assert job["webhook"] == "https://hook.example.org/x"
    assert job["s3Config"] == bucket
    assert job["policy"] == policy
    await third_party.done(job["id"], {})
    await submit(gateway)
    assert (await third_party.take()).keys() == {"id", "input"}


async def test_wrong_input_of_an_endpoint_of_ones_own_is_refused(gateway: Gateway) -> None:
    reply = await gateway.post(f"{ECHO}/run", {"input": [1]})
    assert reply.status_code == 400
    assert reply.json()["error"] == "Invalid request: 'input' must be a JSON object"
    reply = await gateway.client.post(f"{ECHO}/run", content=b'{"input": {"x": NaN}}')
    assert reply.status_code == 400
    assert "NaN" in reply.json()["error"]


async def test_an_endpoint_of_ones_own_has_an_estimate_and_a_listing(gateway: Gateway) -> None:
    reply = await gateway.post(f"{ECHO}/estimate", {"input": {"any": "thing"}})
    assert (reply.status_code, reply.json()["cost"]) == (200, 0.001)
    job_id = await submit(gateway)
    listing = (await gateway.get(f"{ECHO}/requests")).json()
    assert [one["id"] for one in listing["requests"]] == [job_id]


async def test_a_third_party_worker_may_serve_flux_and_must_return_a_picture(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=DEV)
    for output, expected in (({"image_url": "https://x.example/a.png"}, "COMPLETED"), ({"text": "sorry"}, "FAILED")):
        job_id = await submit(gateway, DEV)
        assert (await worker.take())["input"]["prompt"] == "a lake"
        assert (await worker.done(job_id, {"output": output})).status_code == 200
        body = await status(gateway, job_id, DEV)
        assert body["status"] == expected
        if expected == "COMPLETED":
            # Clients read one of the two names; the seed is the one the worker was given.
            url = output["image_url"]
            seed = body["output"].pop("seed")
            assert isinstance(seed, int)
            assert body["output"] == {"image_url": url, "result": url, "cost": 0.02097152}
        else:
            assert body["error"] == "the worker returned no picture"


async def test_what_a_flux_job_costs_is_what_was_charged_whatever_its_worker_says(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=DEV)
    lies = {"cost": 99, "seed": 1, "result": "https://x.example/other.png"}
    job_id = await submit(gateway, DEV, input={"prompt": "a lake", "seed": 7})
    await worker.take()
    await worker.done(job_id, {"status": "IN_PROGRESS", "output": {"cost": 99, "half": True}})
    assert (await status(gateway, job_id, DEV))["output"] == {"half": True}
    await worker.done(job_id, {"output": {"image_url": "https://x.example/a.png", "mine": 5} | lies})
    url = "https://x.example/a.png"
    expected = {"image_url": url, "result": url, "cost": 0.02097152, "seed": 7, "mine": 5}
    assert (await status(gateway, job_id, DEV))["output"] == expected
    job_id = await submit(gateway, DEV)
    await worker.take()
    await worker.done(job_id, {"error": "half way", "output": {"cost": 99, "half": True}})
    assert (await status(gateway, job_id, DEV))["output"] == {"half": True}


async def test_the_rules_are_those_of_the_jobs_own_endpoint(gateway: Gateway) -> None:
    """Whatever endpoint the URL of a report names, and whoever handed the job out."""
    worker = ThirdPartyWorker(gateway, endpoint=f"{DEV},echo")
    job_id = await submit(gateway, DEV)
    await worker.take()
    gateway.services.workforce._registry.get("pod-1").jobs.clear()  # as after a restart of the gateway
    await worker.done(job_id, {"output": "no picture"})
    assert (await status(gateway, job_id, DEV))["status"] == "FAILED"


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"error": "bad size"}, "bad size"),
        ({"error": {"message": "bad size", "code": 7}}, "bad size"),
        ({"error": json.dumps({"error_type": "<class 'ValueError'>", "error_message": "bad"})}, "ValueError: bad"),
    ],
)
async def test_an_error_of_the_handler_fails_the_job(
    gateway: Gateway, third_party: ThirdPartyWorker, result: dict[str, Any], error: str
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    await third_party.done(job_id, result | {"output": {"half": 1}})
    body = await status(gateway, job_id)
    assert (body["status"], body["error"], body["output"]) == ("FAILED", error, {"half": 1})
    assert await gateway.stores.accounts.entries() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"output": NaN}', "it contains NaN"),
        (b'{"output": -1e999}', "a number that is too large"),
        (b"not json", "not valid JSON"),
        (b"[1]", "a result must be a JSON object"),
        (b'{"output": "' + b"x" * (20 * 2**20) + b'"}', "the body exceeded max body size of 20MiB"),
    ],
    ids=["nan", "inf", "text", "list", "oversize"],
)
async def test_a_result_that_cannot_be_used_fails_the_job_with_the_reason(
    gateway: Gateway, third_party: ThirdPartyWorker, content: bytes, reason: str
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    reply = await third_party.post("job-done", job_id, content)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]
    body = await status(gateway, job_id)
    assert body["status"] == "FAILED"
    assert body["error"].startswith("the worker's result was refused: ")
    assert reason in body["error"]


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
async def test_what_is_nested_too_deep_is_refused_on_both_sides(
    gateway: Gateway, third_party: ThirdPartyWorker, opening: bytes
) -> None:
    closing = b"}" if opening.startswith(b"{") else b"]"
    # With the two braces around it, 100 levels are allowed.
    fine, deep = (b"{" + b'"x":' + opening * n + b"1" + closing * n + b"}" for n in (98, 99))
    for content, code in ((fine, 200), (deep, 400), (b"[" * 100_000, 400)):
        reply = await gateway.client.post(f"{ECHO}/run", content=b'{"input": ' + content + b"}")
        assert reply.status_code == code
    job_id = (await third_party.take())["id"]
    assert (await third_party.post("job-done", job_id, b'{"output": ' + deep + b"}")).status_code == 400
    assert (await status(gateway, job_id))["status"] == "FAILED"


async def test_progress_is_the_output_while_the_job_runs(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    for progress in ("10 %", {"step": 2}):
        assert (await third_party.done(job_id, {"status": "IN_PROGRESS", "output": progress})).status_code == 200
        body = await status(gateway, job_id)
        assert (body["status"], body["output"]) == ("IN_PROGRESS", progress)
    await third_party.done(job_id, {"output": "done"})
    assert (await third_party.done(job_id, {"status": "IN_PROGRESS", "output": "late"})).status_code == 200
    body = await status(gateway, job_id)
    assert (body["status"], body["output"]) == ("COMPLETED", "done")


async def test_progress_of_a_flux_job_is_shown_only_as_an_object(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=DEV)
    job_id = await submit(gateway, DEV)
    await worker.take()
    await worker.done(job_id, {"status": "IN_PROGRESS", "output": "half"})
    assert "output" not in await status(gateway, job_id, DEV)
    await worker.done(job_id, {"status": "IN_PROGRESS", "output": {"step": 2}})
    assert (await status(gateway, job_id, DEV))["output"] == {"step": 2}


@pytest.mark.parametrize("aggregate", [[], ["a", "b"]])
async def test_a_stream_ends_with_its_chunks_and_the_aggregate(
    gateway: Gateway, third_party: ThirdPartyWorker, aggregate: list[str]
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    for chunk in ("a", "b"):
        assert (await third_party.post("job-stream", job_id, json.dumps({"output": chunk}).encode())).status_code == 200
    assert (await third_party.done(job_id, {"output": aggregate}, is_stream=True)).status_code == 200
    body = (await gateway.get(f"{ECHO}/stream/{job_id}")).json()
    assert body == {"status": "COMPLETED", "stream": [{"output": "a"}, {"output": "b"}]}
    assert (await status(gateway, job_id))["output"] == aggregate


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"output": "' + b"x" * 2**20 + b'"}', "Invalid request: the body exceeded max body size of 1MiB"),
        (b"{}", "Invalid request: a stream chunk must have an 'output'"),
        (b'{"output": null}', "Invalid request: a stream chunk must have an 'output'"),
        (b'{"output": NaN}', "Invalid request: the body is not valid JSON: it contains NaN"),
    ],
    ids=["oversize", "none", "null", "nan"],
)
async def test_a_chunk_that_cannot_be_used_fails_the_job_with_the_reason(
    gateway: Gateway, third_party: ThirdPartyWorker, content: bytes, reason: str
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    assert (await third_party.post("job-stream", job_id, b'{"output": "before"}')).status_code == 200
    # Sent again by a worker that did not get the answer.
    for _ in range(2):
        reply = await third_party.post("job-stream", job_id, content)
        assert (reply.status_code, reply.json()["error"]) == (400, reason)
    # The worker goes on as if nothing had happened.
    for operation in ("job-stream", "job-done"):
        assert (await third_party.post(operation, job_id, b'{"output": ["after"]}')).status_code == 409
    body = await status(gateway, job_id)
    assert (body["status"], body["error"]) == ("FAILED", f"a chunk of the worker's stream was refused: {reason}")
    stream = (await gateway.get(f"{ECHO}/stream/{job_id}")).json()
    assert stream == {"status": "FAILED", "stream": [{"output": "before"}]}
    assert await gateway.stores.accounts.entries() == []
