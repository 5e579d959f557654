"""Who may speak as a worker, and for which jobs."""

import asyncio
import json
from typing import Any

import pytest

from tests.api.asking import status, submit
from tests.api.conftest import API_KEY, DEV, ECHO, SCHNELL, Gateway, HandWorker, ThirdPartyWorker

pytestmark = pytest.mark.anyio


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
    worker = ThirdPartyWorker(gateway, endpoint=endpoint, token=secret)
    reply = await worker.get("job-take")
    assert reply.status_code == 403
    assert reply.json() == {"error": "the worker token 'echo only' is good for these endpoints only: echo"}


async def test_both_forms_of_a_minted_token_are_accepted(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    worker = ThirdPartyWorker(gateway, token=f"Bearer {secret}")
    assert (await worker.take())["id"] == job_id
    await worker.done(job_id, {"output": 1})
    assert (await status(gateway, job_id))["workerId"] == f"{token_id}:pod-1"


async def test_a_worker_sees_only_the_jobs_it_holds(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    """Who guesses the ids of a worker and its job gets nowhere with a token of their own."""
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    await third_party.take()
    strangers = [ThirdPartyWorker(gateway, name, token=secret) for name in ("pod-1", f"{token_id}:pod-1", "", "other")]
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
    await third_party.take()
    await gateway.post(f"{ECHO}/cancel/{job_id}")
    assert (await strangers[0].get("job-stop")).status_code == 204
    assert (await third_party.get("job-stop")).json() == {"jobsToStop": [job_id]}


async def test_no_picture_is_taken_from_a_stranger(gateway: Gateway, worker: HandWorker) -> None:
    _, secret = await mint(gateway)
    await submit(gateway, DEV)
    job = await worker.take()
    assert job
    worker.headers = {"Authorization": secret}
    assert (await worker.deliver(job)).status_code == 409
    gateway.clock.advance(days=8)
    assert await gateway.services.images.sweep() == 0


async def test_the_own_token_cannot_pass_for_a_minted_one(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    job_id = await submit(gateway)
    await ThirdPartyWorker(gateway, token=secret).take()
    thief = ThirdPartyWorker(gateway, f"{token_id}:pod-1")
    assert (await thief.done(job_id, {"output": "stolen"})).status_code == 400
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


async def test_a_revoked_tokens_jobs_come_back_at_the_end_of_their_lease(gateway: Gateway) -> None:
    token_id, secret = await mint(gateway)
    worker = ThirdPartyWorker(gateway, token=secret)
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
    held = asyncio.create_task(ThirdPartyWorker(gateway, token=secret).get("job-take"))
    await asyncio.sleep(0.1)
    await gateway.services.worker_tokens.revoke(token_id)
    job_id = await submit(gateway)
    assert (await held).status_code == 401
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"


async def test_a_revocation_elsewhere_is_noticed_within_seconds_and_calls_cost_no_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_id, secret = await mint(gateway)
    tokens, stores = gateway.services.worker_tokens, gateway.stores
    reads = []
    find = stores.workers.find_worker_token

    async def counted(secret_hash: str) -> Any:
        reads.append(secret_hash)
        return await find(secret_hash)

    monkeypatch.setattr(stores.workers, "find_worker_token", counted)
    for _ in range(20):
        await tokens.authenticate(secret)
    assert len(reads) == 1
    await stores.workers.revoke_worker_token(token_id, gateway.clock.now_ms())
    gateway.clock.advance(s=5)
    assert (await ThirdPartyWorker(gateway, token=secret).get("ping")).status_code == 401


@pytest.mark.parametrize("jump_s", [-3_600, 0, 3_600])
async def test_a_clock_that_is_set_keeps_no_revoked_token_alive(gateway: Gateway, jump_s: int) -> None:
    token_id, secret = await mint(gateway)
    await gateway.services.worker_tokens.authenticate(secret)
    # By another gateway or the command line.
    await gateway.stores.workers.revoke_worker_token(token_id, gateway.clock.now_ms())
    gateway.clock.jump(s=jump_s)
    gateway.clock.advance(s=5)
    assert (await ThirdPartyWorker(gateway, token=secret).get("ping")).status_code == 401


async def test_refusals_of_held_calls_take_their_time(gateway: Gateway) -> None:
    """Runpod's SDK asks again at once after any error but 429."""
    object.__setattr__(gateway.services, "hot_loop_s", 0.2)
    loop = asyncio.get_running_loop()
    for operation, token in (("job-take", "wrong"), ("job-take-batch", "wrong"), ("job-stop", "wrong")):
        started_s = loop.time()
        assert (await ThirdPartyWorker(gateway, token=token).get(operation)).status_code == 401
        assert loop.time() - started_s >= 0.2
    started_s = loop.time()
    assert (await ThirdPartyWorker(gateway, endpoint="/v2/nothing").get("job-take")).status_code == 404
    assert loop.time() - started_s >= 0.2


@pytest.mark.parametrize("worker_id", ["w" * 201, "a:b"])
async def test_a_worker_id_is_short_and_plain(gateway: Gateway, worker_id: str) -> None:
    assert (await ThirdPartyWorker(gateway, worker_id).get("job-take")).status_code == 400


async def test_two_endpoints_in_one_url_are_served_in_order(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=f"{ECHO},black-forest-labs-flux-1-schnell")
    first, second = await submit(gateway, SCHNELL), await submit(gateway)
    for job_id in (first, second):
        assert (await worker.take())["id"] == job_id
        await worker.done(job_id, {})
