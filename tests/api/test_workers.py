"""The worker protocol over HTTP, as a worker of somebody else's speaks it (contract section 5)."""

import asyncio
import dataclasses
import json
import logging
from typing import Any

import httpx
import pytest

from flux_endpoint.api.app import create_app
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.service.custom import CustomEndpoint
from flux_endpoint.service.endpoint import EndpointService
from flux_endpoint.service.workforce import Workforce
from tests.api.conftest import API_KEY, DEV, ECHO, ENDPOINTS, SCHNELL, WORKER_TOKEN, Gateway, HandWorker

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"


class ForeignWorker:
    """Speaks like Runpod's SDK: no claim token, results as JSON under a form's content type."""

    def __init__(self, gateway: Gateway, worker_id: str = "pod-1", endpoint: str = ECHO, token: str = WORKER_TOKEN):
        self.client = gateway.client
        self.id = worker_id
        self.endpoint = endpoint
        self.headers = {"Authorization": token}

    async def get(self, operation: str, query: str = "") -> httpx.Response:
        url = f"{self.endpoint}/{operation}/{self.id}?gpu=unknown{query}"
        return await self.client.get(url, headers=self.headers)

    async def take(self) -> dict[str, Any]:
        reply = await self.get("job-take", "&job_in_progress=0")
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def post(self, operation: str, job_id: str, content: bytes, *, is_stream: bool = False) -> httpx.Response:
        return await self.client.post(
            f"{self.endpoint}/{operation}/{self.id}/{job_id}?gpu=unknown&isStream={str(is_stream).lower()}",
            content=content,
            headers=self.headers | {"Content-Type": FORM, "charset": "utf-8", "X-Request-ID": job_id},
        )

    async def done(self, job_id: str, result: object, *, is_stream: bool = False) -> httpx.Response:
        return await self.post("job-done", job_id, json.dumps(result).encode(), is_stream=is_stream)


@pytest.fixture
def foreign(gateway: Gateway) -> ForeignWorker:
    return ForeignWorker(gateway)


async def submit(gateway: Gateway, endpoint: str = ECHO, **envelope: Any) -> str:
    body = {"input": {"prompt": "a lake"}} | envelope
    reply = await gateway.post(f"{endpoint}/run", body)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def status(gateway: Gateway, job_id: str, endpoint: str = ECHO) -> dict[str, Any]:
    return (await gateway.get(f"{endpoint}/status/{job_id}")).json()


async def workers(gateway: Gateway, endpoint: str = ECHO) -> dict[str, int]:
    counts = (await gateway.get(f"{endpoint}/health")).json()["workers"]
    return {state: count for state, count in counts.items() if count}


# --- Jobs and results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [{"a": [None, {"b": None}]}, [], "text", 0, False, 1.5, {}])
async def test_an_output_of_an_endpoint_of_ones_own_is_passed_through(
    gateway: Gateway, foreign: ForeignWorker, output: Any
) -> None:
    job_id = await submit(gateway)
    job = await foreign.take()
    assert (job["id"], job["input"]) == (job_id, {"prompt": "a lake"})
    assert (await foreign.done(job_id, {"output": output})).status_code == 200
    body = await status(gateway, job_id)
    assert body.keys() == {"id", "status", "delayTime", "executionTime", "workerId", "output"}
    assert (body["status"], body["workerId"], body["output"]) == ("COMPLETED", "pod-1", output)
    (entry,) = await gateway.ledger.entries()
    assert (entry.job_id, str(entry.amount_usd)) == (job_id, "0.00100000")


@pytest.mark.parametrize("result", [{}, {"output": None}])
async def test_no_output_is_completed_without_the_key(gateway: Gateway, foreign: ForeignWorker, result: object) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    await foreign.done(job_id, result)
    body = await status(gateway, job_id)
    assert body["status"] == "COMPLETED"
    assert "output" not in body


async def test_the_worker_gets_what_the_client_sent_beside_the_input(gateway: Gateway, foreign: ForeignWorker) -> None:
    bucket = {"accessId": "a", "accessSecret": "b", "bucketName": "c", "endpointUrl": "https://s3.example.org"}
    policy = {"executionTimeout": 5_000, "ttl": 60_000, "lowPriority": True}
    await submit(gateway, input={}, webhook="https://hook.example.org/x", policy=policy, s3Config=bucket)
    job = await foreign.take()
    assert job["input"] == {}
    assert job["webhook"] == "https://hook.example.org/x"
    assert job["s3Config"] == bucket
    assert job["policy"] == policy
    await submit(gateway)
    assert (await foreign.take()).keys() == {"id", "input", "endpointId", "claimToken", "leaseMs"}


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


async def test_a_foreign_worker_may_serve_flux_and_must_return_a_picture(gateway: Gateway) -> None:
    worker = ForeignWorker(gateway, endpoint=DEV)
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


async def test_the_rules_are_those_of_the_jobs_own_endpoint(gateway: Gateway) -> None:
    """Whatever endpoint the URL of a report names, and whoever handed the job out."""
    worker = ForeignWorker(gateway, endpoint=f"{DEV},echo")
    job_id = await submit(gateway, DEV)
    await worker.take()
    gateway.services.workforce._roster.get("pod-1").jobs.clear()  # as after a restart of the gateway
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
    gateway: Gateway, foreign: ForeignWorker, result: dict[str, Any], error: str
) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    await foreign.done(job_id, result | {"output": {"half": 1}})
    body = await status(gateway, job_id)
    assert (body["status"], body["error"], body["output"]) == ("FAILED", error, {"half": 1})
    assert await gateway.ledger.entries() == []


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
    gateway: Gateway, foreign: ForeignWorker, content: bytes, reason: str
) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    reply = await foreign.post("job-done", job_id, content)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]
    body = await status(gateway, job_id)
    assert body["status"] == "FAILED"
    assert body["error"].startswith("the worker's result was refused: ")
    assert reason in body["error"]


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
async def test_what_is_nested_too_deep_is_refused_on_both_sides(
    gateway: Gateway, foreign: ForeignWorker, opening: bytes
) -> None:
    closing = b"}" if opening.startswith(b"{") else b"]"
    # With the two braces around it, 100 levels are allowed.
    fine, deep = (b"{" + b'"x":' + opening * n + b"1" + closing * n + b"}" for n in (98, 99))
    for content, code in ((fine, 200), (deep, 400), (b"[" * 100_000, 400)):
        reply = await gateway.client.post(f"{ECHO}/run", content=b'{"input": ' + content + b"}")
        assert reply.status_code == code
    job_id = (await foreign.take())["id"]
    assert (await foreign.post("job-done", job_id, b'{"output": ' + deep + b"}")).status_code == 400
    assert (await status(gateway, job_id))["status"] == "FAILED"


# --- Progress and streams --------------------------------------------------------------------------------------------


async def test_progress_is_the_output_while_the_job_runs(gateway: Gateway, foreign: ForeignWorker) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    for progress in ("10 %", {"step": 2}):
        assert (await foreign.done(job_id, {"status": "IN_PROGRESS", "output": progress})).status_code == 200
        body = await status(gateway, job_id)
        assert (body["status"], body["output"]) == ("IN_PROGRESS", progress)
    await foreign.done(job_id, {"output": "done"})
    assert (await foreign.done(job_id, {"status": "IN_PROGRESS", "output": "late"})).status_code == 200
    body = await status(gateway, job_id)
    assert (body["status"], body["output"]) == ("COMPLETED", "done")


async def test_progress_of_a_flux_job_is_shown_only_as_an_object(gateway: Gateway) -> None:
    worker = ForeignWorker(gateway, endpoint=DEV)
    job_id = await submit(gateway, DEV)
    await worker.take()
    await worker.done(job_id, {"status": "IN_PROGRESS", "output": "half"})
    assert "output" not in await status(gateway, job_id, DEV)
    await worker.done(job_id, {"status": "IN_PROGRESS", "output": {"step": 2}})
    assert (await status(gateway, job_id, DEV))["output"] == {"step": 2}


@pytest.mark.parametrize("aggregate", [[], ["a", "b"]])
async def test_a_stream_ends_with_its_chunks_and_the_aggregate(
    gateway: Gateway, foreign: ForeignWorker, aggregate: list[str]
) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    for chunk in ("a", "b"):
        assert (await foreign.post("job-stream", job_id, json.dumps({"output": chunk}).encode())).status_code == 200
    assert (await foreign.done(job_id, {"output": aggregate}, is_stream=True)).status_code == 200
    body = (await gateway.get(f"{ECHO}/stream/{job_id}")).json()
    assert body == {"status": "COMPLETED", "stream": [{"output": "a"}, {"output": "b"}]}
    assert (await status(gateway, job_id))["output"] == aggregate


async def test_a_chunk_must_be_small_and_must_not_be_nothing(gateway: Gateway, foreign: ForeignWorker) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    for content in (b'{"output": "' + b"x" * 2**20 + b'"}', b"{}", b'{"output": NaN}'):
        assert (await foreign.post("job-stream", job_id, content)).status_code == 400
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


# --- Batches, stops, pings -------------------------------------------------------------------------------------------


async def test_a_batch_is_a_list_of_at_most_so_many(gateway: Gateway, foreign: ForeignWorker) -> None:
    job_ids = [await submit(gateway) for _ in range(3)]
    reply = await foreign.get("job-take-batch", "&batch_size=2&job_in_progress=0")
    assert [job["id"] for job in reply.json()] == job_ids[:2]
    reply = await foreign.get("job-take-batch", "&batch_size=5&job_in_progress=1")
    assert [job["id"] for job in reply.json()] == job_ids[2:]
    assert (await foreign.get("job-take-batch", "&batch_size=5")).status_code == 204
    for size in ("0", "101", "-1", "two"):
        assert (await foreign.get("job-take-batch", f"&batch_size={size}")).status_code == 400


async def test_a_cancelled_job_is_told_on_the_stop_channel_once(gateway: Gateway, foreign: ForeignWorker) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    await gateway.post(f"{ECHO}/cancel/{job_id}")
    assert (await foreign.get("job-stop")).json() == {"jobsToStop": [job_id]}
    assert (await foreign.get("job-stop")).status_code == 204


@pytest.mark.parametrize("extra", ["&runpod_version=1.12.0", "&retry_ping=1", ""])
async def test_pings_keep_a_job_through_many_leases(gateway: Gateway, foreign: ForeignWorker, extra: str) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    for _ in range(10):
        gateway.clock.advance(s=20)
        assert (await foreign.get("ping", f"&job_id={job_id}{extra}")).status_code == 200
        await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    assert (await foreign.get("ping", "&job_id=")).json() == {"jobsToStop": []}


async def test_lost_pings_cost_one_more_try_and_then_the_job(gateway: Gateway, foreign: ForeignWorker) -> None:
    job_id = await submit(gateway)
    for retries in (0, 1):
        assert (await foreign.take())["id"] == job_id
        assert (await status(gateway, job_id)).get("retries", 0) == retries
        gateway.clock.advance(s=31)
        await gateway.janitor.sweep()
    body = await status(gateway, job_id)
    assert (body["status"], body["error"], body["retries"]) == ("FAILED", "job timed out after 1 retries", 1)


# --- Health ----------------------------------------------------------------------------------------------------------


async def test_health_follows_a_worker(gateway: Gateway, foreign: ForeignWorker) -> None:
    assert await workers(gateway) == {}
    await foreign.get("ping")
    assert await workers(gateway) == {"initializing": 1}
    await foreign.get("job-take")
    assert await workers(gateway) == {"idle": 1, "ready": 1}
    job_id = await submit(gateway)
    await foreign.take()
    assert await workers(gateway) == {"ready": 1, "running": 1}
    await foreign.done(job_id, {})
    assert await workers(gateway) == {"idle": 1, "ready": 1}
    assert await workers(gateway, DEV) == {}
    gateway.clock.advance(s=61)
    assert await workers(gateway) == {"unhealthy": 1}
    gateway.clock.advance(s=300)
    await gateway.janitor.sweep()
    assert await workers(gateway) == {}


async def test_an_unhealthy_worker_loses_its_jobs_and_gets_no_more(
    gateway: Gateway, foreign: ForeignWorker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submit(gateway)
    await foreign.take()
    with caplog.at_level(logging.WARNING):
        reply = await foreign.get("ping", f"&status=unhealthy&check=gpu&reason={'x' * 500}&runpod_version=1.12.0")
    assert reply.status_code == 200
    assert f"pod-1 is unhealthy: gpu: {'x' * 251}\n" in caplog.text
    assert await workers(gateway) == {"unhealthy": 1}
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    assert (await foreign.get("job-take")).status_code == 204
    assert (await foreign.get("job-take-batch", "&batch_size=2")).status_code == 204
    await foreign.get("ping", "&runpod_version=1.12.0")
    assert (await foreign.take())["id"] == job_id
    assert (await status(gateway, job_id))["retries"] == 1


async def test_a_held_take_of_a_worker_that_becomes_unhealthy_is_not_served(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    waiting = asyncio.create_task(workforce.take("pod-1", ["echo"], 5))
    await asyncio.sleep(0.05)
    await workforce.ping_unhealthy("pod-1", ["echo"], "hot")
    job_id = await submit(gateway)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await workforce.ping("pod-1", ["echo"], [])
    assert [claim.job.id for claim in await waiting] == [job_id]


async def test_a_worker_that_asks_for_a_restart_gets_nothing_until_it_has_been(
    gateway: Gateway, foreign: ForeignWorker
) -> None:
    first, second = await submit(gateway), await submit(gateway)
    await foreign.take()
    stopping = asyncio.create_task(gateway.services.workforce.stops("pod-1", ["echo"], 60))
    await asyncio.sleep(0.05)
    await foreign.done(first, {"output": 1, "stopPod": True})
    # A process that ends after its job is not held up by its call on the stop channel.
    assert await asyncio.wait_for(stopping, 5) == []
    assert (await status(gateway, first))["status"] == "COMPLETED"
    assert await workers(gateway) == {"initializing": 1}
    # The process goes on: it asks a second after its last job, and then again as soon as it is answered.
    for pause_ms in (1_000, 100, 0, 1_100):
        gateway.clock.advance(ms=pause_ms)
        await foreign.get("ping")
        assert (await foreign.get("job-take")).status_code == 204
    # It has been restarted: nobody asked for a while.
    gateway.clock.advance(s=3)
    assert (await foreign.take())["id"] == second


async def test_a_leaving_worker_that_drops_its_call_has_ended(gateway: Gateway, foreign: ForeignWorker) -> None:
    first, second = await submit(gateway), await submit(gateway)
    await foreign.take()
    await foreign.done(first, {"stopPod": True})
    gateway.clock.advance(s=1)
    held = asyncio.create_task(gateway.services.workforce.take("pod-1", ["echo"], 60))
    await asyncio.sleep(0.05)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert (await foreign.take())["id"] == second


async def test_several_gateways_agree_on_the_workers(gateway: Gateway, foreign: ForeignWorker) -> None:
    first = gateway.services.workforce
    second = Workforce(first._store, first._store, first._pictures, first._catalog, gateway.clock)
    await foreign.get("job-take")
    assert (await second.counts("echo")).idle == 1
    assert await second.take("pod-2", ["echo"], 0) == []
    await second.ping_unhealthy("pod-1", ["echo"], "hot")
    assert await workers(gateway) == {"idle": 1, "ready": 1, "unhealthy": 1}
    await submit(gateway)
    gateway.clock.advance(s=6)
    assert (await foreign.get("job-take")).status_code == 204


# --- Tokens ----------------------------------------------------------------------------------------------------------

CALLS = [
    ("GET", "job-take/w"),
    ("GET", "job-take-batch/w?batch_size=2"),
    ("POST", "job-done/w/j"),
    ("POST", "job-stream/w/j"),
    ("GET", "job-stop/w"),
    ("GET", "ping/w"),
    ("GET", "ping/w?status=unhealthy"),
]


async def mint(gateway: Gateway, name: str = "pool", *endpoint_ids: str) -> tuple[str, str]:
    token, secret = await gateway.services.worker_tokens.create(name, endpoint_ids or None)
    return token.id, secret


@pytest.mark.parametrize(("method", "call"), CALLS)
async def test_no_call_without_a_token_that_is_good_for_it(gateway: Gateway, method: str, call: str) -> None:
    revoked_id, revoked = await mint(gateway, "old")
    await gateway.services.worker_tokens.revoke(revoked_id)
    _, elsewhere = await mint(gateway, "elsewhere", "echo")
    for secret, code in (("", 401), (API_KEY, 401), ("fxw_guess", 401), (revoked, 401), (elsewhere, 403)):
        reply = await gateway.client.request(method, f"{DEV}/{call}", headers={"Authorization": secret}, json={})
        assert (reply.status_code, list(reply.json())) == (code, ["error"])


@pytest.mark.parametrize("endpoint", [DEV, f"{DEV},echo"])
async def test_a_token_is_good_for_its_endpoints_only(gateway: Gateway, endpoint: str) -> None:
    _, secret = await mint(gateway, "echo only", "echo")
    worker = ForeignWorker(gateway, endpoint=endpoint, token=secret)
    reply = await worker.get("job-take")
    assert reply.status_code == 403
    assert reply.json() == {"error": "the worker token 'echo only' is good for these endpoints only: echo"}


async def test_both_forms_of_a_minted_token_are_accepted(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    worker = ForeignWorker(gateway, token=f"Bearer {secret}")
    assert (await worker.take())["id"] == job_id
    await worker.done(job_id, {"output": 1})
    assert (await status(gateway, job_id))["workerId"] == f"{token_id}:pod-1"


async def test_a_worker_sees_only_the_jobs_it_holds(gateway: Gateway, foreign: ForeignWorker) -> None:
    """Who guesses the ids of a worker and its job gets nowhere with a token of their own."""
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    await foreign.take()
    strangers = [ForeignWorker(gateway, name, token=secret) for name in ("pod-1", f"{token_id}:pod-1", "", "other")]
    for stranger in strangers:
        for operation, body in (
            ("job-done", {"output": "stolen"}),
            ("job-done", {"error": "sabotage"}),
            ("job-done", {"returned": True}),
            ("job-stream", {"output": "forged"}),
        ):
            reply = await stranger.post(operation, job_id, json.dumps(body).encode())
            assert reply.status_code in (400, 404, 409)
        await stranger.post("job-done", job_id, b'{"status": "IN_PROGRESS", "output": "forged"}')
        await stranger.post("job-done", job_id, b"NaN")
        await stranger.get("ping", f"&job_id={job_id}&status=unhealthy")
    gateway.clock.advance(s=20)
    assert (await strangers[0].get("ping", f"&job_id={job_id}")).json() == {"jobsToStop": [job_id]}
    gateway.clock.advance(s=11)
    # Their pings have kept nothing alive.
    await gateway.janitor.sweep()
    body = await status(gateway, job_id)
    assert (body["status"], body.get("output")) == ("IN_QUEUE", None)
    await foreign.take()
    await gateway.post(f"{ECHO}/cancel/{job_id}")
    assert (await strangers[0].get("job-stop")).status_code == 204
    assert (await foreign.get("job-stop")).json() == {"jobsToStop": [job_id]}


async def test_no_picture_is_taken_from_a_stranger(gateway: Gateway, worker: HandWorker) -> None:
    _, secret = await mint(gateway)
    await submit(gateway, DEV)
    job = await worker.take()
    assert job
    worker.headers = {"Authorization": secret}
    assert (await worker.deliver(job)).status_code == 409
    gateway.clock.advance(days=8)
    assert await gateway.services.gallery.sweep() == 0


async def test_the_own_token_cannot_pass_for_a_minted_one(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    await ForeignWorker(gateway, token=secret).take()
    thief = ForeignWorker(gateway, f"{token_id}:pod-1")
    assert (await thief.done(job_id, {"output": "stolen"})).status_code == 400
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


async def test_a_revoked_tokens_jobs_come_back_at_the_end_of_their_lease(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    worker = ForeignWorker(gateway, token=secret)
    job_id = await submit(gateway)
    await worker.take()
    assert await gateway.services.worker_tokens.revoke(token_id)
    for reply in (
        await worker.get("ping", f"&job_id={job_id}"),
        await worker.get("job-take"),
        await worker.done(job_id, {"output": 1}),
    ):
        assert (reply.status_code, reply.json()) == (401, {"error": "the worker token 'pool' has been revoked"})
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    assert await gateway.services.worker_tokens.revoke("no-such-token") is False


async def test_a_held_take_ends_with_its_token(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    object.__setattr__(gateway.services, "hold_s", 30)
    held = asyncio.create_task(ForeignWorker(gateway, token=secret).get("job-take"))
    await asyncio.sleep(0.1)
    await gateway.services.worker_tokens.revoke(token_id)
    job_id = await submit(gateway)
    assert (await held).status_code == 401
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"


async def test_a_revocation_elsewhere_is_noticed_within_seconds_and_calls_cost_no_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_id, secret = await mint(gateway)
    tokens, store = gateway.services.worker_tokens, gateway.services.workforce._store
    reads = []
    find = store.find_worker_token

    async def counted(secret_hash: str) -> Any:
        reads.append(secret_hash)
        return await find(secret_hash)

    monkeypatch.setattr(store, "find_worker_token", counted)
    for _ in range(20):
        await tokens.authenticate(secret)
    assert len(reads) == 1
    await store.revoke_worker_token(token_id, gateway.clock.now_ms())
    gateway.clock.advance(s=5)
    assert (await ForeignWorker(gateway, token=secret).get("ping")).status_code == 401


async def test_refusals_of_held_calls_take_their_time(gateway: Gateway) -> None:
    """Runpod's SDK asks again at once after any error but 429."""
    object.__setattr__(gateway.services, "hot_loop_s", 0.2)
    loop = asyncio.get_running_loop()
    for operation, token in (("job-take", "wrong"), ("job-take-batch", "wrong"), ("job-stop", "wrong")):
        started_s = loop.time()
        assert (await ForeignWorker(gateway, token=token).get(operation)).status_code == 401
        assert loop.time() - started_s >= 0.2
    started_s = loop.time()
    assert (await ForeignWorker(gateway, endpoint="/v2/nothing").get("job-take")).status_code == 404
    assert loop.time() - started_s >= 0.2


@pytest.mark.parametrize("worker_id", ["w" * 201, "a:b"])
async def test_a_worker_id_is_short_and_plain(gateway: Gateway, worker_id: str) -> None:
    assert (await ForeignWorker(gateway, worker_id).get("job-take")).status_code == 400


async def test_two_endpoints_in_one_url_are_served_in_order(gateway: Gateway) -> None:
    worker = ForeignWorker(gateway, endpoint=f"{ECHO},black-forest-labs-flux-1-schnell")
    first, second = await submit(gateway, SCHNELL), await submit(gateway)
    assert [(await worker.take())["id"] for _ in range(2)] == [first, second]


# --- The OpenAPI document --------------------------------------------------------------------------------------------


async def test_openapi_describes_the_input_of_endpoints_of_ones_own(gateway: Gateway) -> None:
    schema = {"required": ["n"], "properties": {"n": {"maximum": 3}}}
    referring = {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}}
    catalog = ENDPOINTS | {
        "small": CustomEndpoint("small", "Small", input_schema=schema),
        "referring": CustomEndpoint("referring", "Referring", input_schema=referring),
    }
    store = gateway.store
    endpoints = EndpointService(store, catalog, gateway.clock)
    document = create_app(dataclasses.replace(gateway.services, endpoints=endpoints)).openapi()
    for operation in ("run", "runsync", "estimate", "batch", "batch/{batch_id}/requests"):
        inputs = {}
        for endpoint_id in ("echo", "small", "referring"):
            body = document["paths"][f"/v2/{endpoint_id}/{operation}"]["post"]["requestBody"]
            submission = body["content"]["application/json"]["schema"]
            if operation.startswith("batch"):
                submission = submission.get("properties", {}).get("requests", submission)["items"]
            inputs[endpoint_id] = submission["properties"]["input"]
        assert inputs == {
            "echo": {"type": "object"},
            "small": schema | {"type": "object"},
            "referring": {"type": "object"},
        }
    # One application's endpoints are not another's.
    flux_only = dataclasses.replace(gateway.services, endpoints=EndpointService(store, FLUX_ENDPOINTS, gateway.clock))
    assert "/v2/small/run" not in create_app(flux_only).openapi()["paths"]
