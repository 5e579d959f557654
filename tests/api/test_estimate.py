"""What a job would cost and how long it would take."""

import pytest

from flux_endpoint.service.limits import QueueCap
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio


# Of "a lake", with the embedded model's tokenizers.
TOKENS = {"t5": 3, "t5Limit": 64, "clip": 4, "clipLimit": 77}


async def estimate(gateway: Gateway, endpoint: str = DEV, **fields: object) -> dict[str, object]:
    reply = await gateway.post(f"{endpoint}/estimate", {"input": {"prompt": "a lake"} | fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_fresh_server_knows_the_price_only(gateway: Gateway) -> None:
    notice = "no worker serves this endpoint"
    expected = {"cost": 0.02097152, "jobsAhead": 0, "workers": 0, "tokens": TOKENS, "notice": notice}
    assert await estimate(gateway) == expected
    assert (await estimate(gateway, width=512, height=512))["cost"] == 0.00524288
    assert (await estimate(gateway, SCHNELL))["cost"] == 0.00251658
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 0


async def test_times_come_from_the_jobs_done_here(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(num_inference_steps=20)
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(s=4)
    await worker.finish(job)
    expected = await estimate(gateway, num_inference_steps=20)
    times = {"executionTime": 4_000, "queueTime": 0, "jobsAhead": 0, "workers": 1}
    assert expected == {"cost": 0.02097152, "tokens": TOKENS} | times
    assert (await estimate(gateway, num_inference_steps=10))["executionTime"] == 2_000
    assert (await estimate(gateway, num_inference_steps=10, negative_prompt="fog"))["executionTime"] == 4_000
    assert (await estimate(gateway, num_inference_steps=20, width=512, height=512))["executionTime"] == 1_000
    assert "executionTime" not in await estimate(gateway, SCHNELL)
    # At another speed level: as at this one, until one was drawn.
    assert (await estimate(gateway, num_inference_steps=20, acceleration="high"))["executionTime"] == 4_000
    await gateway.submit(num_inference_steps=20, acceleration="high")
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(s=1)
    await worker.finish(job)
    assert (await estimate(gateway, num_inference_steps=10, acceleration="high"))["executionTime"] == 500
    assert (await estimate(gateway, num_inference_steps=20))["executionTime"] == 4_000
    # One that runs has half of its time before it, and two wait.
    for _ in range(3):
        await gateway.submit()
    await worker.take()
    expected = await estimate(gateway)
    assert (expected["jobsAhead"], expected["queueTime"]) == (3, 6_250)


async def test_wrong_input_is_told_as_by_run(gateway: Gateway) -> None:
    body = {"input": {"prompt": "a lake", "width": 100}}
    refused = await gateway.post(f"{DEV}/run", body)
    reply = await gateway.post(f"{DEV}/estimate", body)
    assert reply.status_code == 400
    assert reply.json() == {"status": "FAILED", "error": refused.json()["error"]}
    assert (await gateway.client.post(f"{DEV}/estimate", content=b"{")).status_code == 400
    assert (await gateway.post(f"{DEV}/estimate", [])).status_code == 400


async def test_what_run_refuses_is_refused(gateway: Gateway) -> None:
    long = {"input": {"prompt": "a lake"}, "padding": "x" * 10 * 2**20}
    for body, key in ((long, "once"), ({"input": {"prompt": "a lake"}}, "n\t")):
        run, estimated = [
            await gateway.post(f"{DEV}/{operation}", body, headers={"Idempotency-Key": key})
            for operation in ("run", "estimate")
        ]
        assert (run.status_code, estimated.status_code) == (400, 400)
        told = run.json()
        told.pop("id", None)
        assert estimated.json() == told


async def test_a_full_queue_is_429_until_there_is_room(gateway: Gateway, worker: HandWorker) -> None:
    endpoints = gateway.services.endpoints
    endpoints.cap = QueueCap(gateway.stores.activity, gateway.clock, 3)
    for _ in range(3):
        await gateway.submit()
    for operation in ("run", "runsync"):
        reply = await gateway.post(f"{DEV}/{operation}", {"input": {"prompt": "a lake"}})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
        assert reply.json() == {"error": "the queue of this endpoint is full: 3 jobs wait, and 3 may; try again in 5 s"}
    await gateway.submit(SCHNELL)
    assert await worker.take() is not None
    gateway.clock.advance(s=1)
    await gateway.submit()
    assert (await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}})).status_code == 429


async def test_a_longer_prompt_has_more_tokens(gateway: Gateway) -> None:
    tokens = (await estimate(gateway, prompt="a calm sea at night, " * 20))["tokens"]
    assert tokens["t5"] > tokens["t5Limit"] == 64
    assert tokens["clip"] > tokens["clipLimit"] == 77
