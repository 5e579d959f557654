"""What clients send beside `input`, over HTTP: policy, time to live, Idempotency-Key."""

from decimal import Decimal

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

BODY = {"input": {"prompt": "a lake"}}


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"policy": {"ttl": 1}}, "Invalid parameter: policy.ttl must be between 10000 and 604800000 milliseconds"),
        ({"webhook": "nowhere"}, "Invalid parameter: webhook must be an http:// or https:// URL"),
        ({"s3Config": {}}, "Invalid parameter: s3Config.accessId is required"),
    ],
)
async def test_a_wrong_envelope_is_refused_like_a_wrong_input(gateway: Gateway, extra, error) -> None:
    reply = await gateway.post(f"{DEV}/run", BODY | extra)
    assert reply.status_code == 400
    assert reply.json()["status"] == "FAILED"
    assert reply.json()["error"].startswith(error)


async def test_a_job_that_runs_too_long_is_timed_out(gateway: Gateway, worker: HandWorker) -> None:
    reply = await gateway.post(f"{DEV}/run", BODY | {"policy": {"executionTimeout": 5_000}})
    await worker.take()
    gateway.clock.advance(s=5)
    await gateway.janitor.sweep()
    job = (await gateway.get(f"{DEV}/status/{reply.json()['id']}")).json()
    assert job == {
        "id": reply.json()["id"],
        "status": "TIMED_OUT",
        "delayTime": 0,
        "executionTime": 5_000,
        "workerId": "worker-1",
        "error": "the job ran longer than its policy.executionTimeout of 5000 ms",
    }


@pytest.mark.parametrize(("operation", "kept_s"), [("run", 1_800), ("runsync?wait=1000", 60)])
async def test_a_finished_job_is_read_for_as_long_as_runpod_keeps_it(
    gateway: Gateway, worker: HandWorker, operation, kept_s
) -> None:
    reply = await gateway.post(f"{DEV}/{operation}", BODY)
    job_id = reply.json()["id"]
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    gateway.clock.advance(s=kept_s, ms=-1)
    assert (await gateway.get(f"{DEV}/status/{job_id}")).json()["status"] == "COMPLETED"
    gateway.clock.advance(ms=1)
    for path in ("status", "status-sync", "stream"):
        gone = await gateway.get(f"{DEV}/{path}/{job_id}")
        assert gone.status_code == 404
        assert job_id in gone.json()["error"]
    await gateway.janitor.sweep()
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["completed"] == 1


async def test_a_job_that_waits_longer_than_its_time_to_live_is_gone(gateway: Gateway, worker: HandWorker) -> None:
    reply = await gateway.post(f"{DEV}/run", BODY | {"policy": {"ttl": 10_000}})
    gateway.clock.advance(s=10)
    assert (await gateway.get(f"{DEV}/status/{reply.json()['id']}")).status_code == 404
    assert await worker.take() is None


async def test_reading_may_shorten_the_life_of_a_job(gateway: Gateway) -> None:
    job_id = await gateway.submit()
    assert (await gateway.get(f"{DEV}/status/{job_id}?ttl=6000")).json()["status"] == "IN_QUEUE"
    gateway.clock.advance(s=6)
    assert (await gateway.get(f"{DEV}/status/{job_id}")).status_code == 404


@pytest.mark.parametrize("ttl", ["0", "999", "604800001", "soon", "-5", "1e9", "9" * 40, "\u0663"])
async def test_a_wrong_ttl_is_refused(gateway: Gateway, ttl) -> None:
    reply = await gateway.get(f"{DEV}/status/{await gateway.submit()}?ttl={ttl}")
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("ttl is invalid; must be")


async def test_the_same_idempotency_key_and_body_get_the_same_job(gateway: Gateway, worker: HandWorker) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = (await gateway.post(f"{DEV}/run", BODY, headers=headers)).json()
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).json() == first
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    again = await gateway.post(f"{DEV}/runsync", BODY, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, first["id"], "COMPLETED")
    other = await gateway.post(f"{SCHNELL}/run", BODY, headers=headers)
    assert other.json()["id"] != first["id"]


async def test_a_job_that_failed_is_found_again_without_an_error_code(gateway: Gateway, worker: HandWorker) -> None:
    headers = {"Idempotency-Key": "order-1"}
    await gateway.post(f"{DEV}/run", BODY, headers=headers)
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no memory"})
    again = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    assert (again.status_code, again.json()) == (200, {"id": job["id"], "status": "FAILED"})


async def test_the_same_idempotency_key_with_another_body_is_a_conflict(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "order-1"}
    await gateway.post(f"{DEV}/run", BODY, headers=headers)
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a sea"}}, headers=headers)
    assert reply.status_code == 409
    assert reply.json() == {
        "error": "the Idempotency-Key 'order-1' was used with another request body; choose a new one"
    }


async def test_a_repeat_after_the_result_is_erased_makes_nothing_new(gateway: Gateway, worker: HandWorker) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = (await gateway.post(f"{DEV}/run", BODY, headers=headers)).json()
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    gateway.clock.advance(s=1_800)
    for _ in range(2):
        for operation in ("run", "runsync"):
            again = await gateway.post(f"{DEV}/{operation}", BODY, headers=headers)
            assert (again.status_code, again.headers["X-Job-Id"]) == (410, first["id"])
            assert (again.json()["id"], again.json()["status"]) == (first["id"], "COMPLETED")
            assert "its result has been erased. Nothing was made or charged now" in again.json()["error"]
        await gateway.janitor.sweep()
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"] == {
        **dict.fromkeys(("failed", "inProgress", "inQueue", "retried"), 0),
        "completed": 1,
    }
    gateway.clock.advance(s=86_400 - 1_800)
    again = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    assert (again.status_code, again.json()["status"]) == (200, "IN_QUEUE")


async def test_a_repeat_passes_a_full_queue_and_every_limit_of_its_key(gateway: Gateway) -> None:
    limits = KeyLimits(requests_per_minute=1, usd_per_month=Decimal("0.02097152"))
    _, secret = await gateway.services.accounts.create("shop", limits=limits)
    headers = {"Authorization": secret, "Idempotency-Key": "order-1"}
    first = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    assert first.status_code == 200
    gateway.services.endpoints.cap._max_queued = 1
    for operation in ("run", "runsync?wait=1000"):
        again = await gateway.post(f"{DEV}/{operation}", BODY, headers=headers)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    # What is new is refused, under a name or none, wrong bodies too.
    for name, body in (("order-2", BODY), ("order-2", {"input": {}}), (None, BODY)):
        headers = {"Authorization": secret} | ({"Idempotency-Key": name} if name else {})
        reply = await gateway.post(f"{DEV}/run", body, headers=headers)
        assert (reply.status_code, reply.json()["error"].partition(";")[0]) == (
            429,
            "rate limit: at most 1 jobs in 60 s with one API key",
        )
    gateway.clock.advance(s=60)
    reply = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    assert "the queue of this endpoint is full" in reply.json()["error"]


async def test_a_refused_body_does_not_use_up_its_idempotency_key(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "order-1"}
    assert (await gateway.post(f"{DEV}/run", {"input": {}}, headers=headers)).status_code == 400
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize("name", ["", "a" * 256, "a\tb"])
async def test_a_wrong_idempotency_key_is_refused(gateway: Gateway, name) -> None:
    reply = await gateway.post(f"{DEV}/run", BODY, headers={"Idempotency-Key": name})
    assert reply.status_code == 400
    assert "Idempotency-Key must have 1 to 255 printable characters" in reply.json()["error"]
