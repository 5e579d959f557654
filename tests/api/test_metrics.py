"""What Prometheus reads: parsed by its own parser, with a clock that the test moves."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flux_endpoint.core.account import KeyLimits
from tests.api.asking import submit
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

DEV_ID, SCHNELL_ID = DEV.removeprefix("/v2/"), SCHNELL.removeprefix("/v2/")


async def scrape(gateway: Gateway, **options: object) -> dict[tuple[str, ...], float]:
    # Figures are kept for a second, and an end is counted some seconds later.
    gateway.clock.advance(ms=6_000)
    reply = await gateway.get("/metrics", **options)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


async def draw(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(num_inference_steps=7)
    gateway.clock.advance(ms=40)
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(ms=400)
    await worker.finish(job)


async def test_a_job_moves_through_the_figures(gateway: Gateway, worker: HandWorker) -> None:
    before = await scrape(gateway)
    assert before["flux_endpoint_delay_seconds_count", DEV_ID] == 0
    # What begins with its first event has no rate then.
    for status in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"):
        assert before["flux_endpoint_jobs_ended_total", SCHNELL_ID, status] == 0
    await gateway.submit()
    gateway.clock.advance(ms=4_000)
    await submit(gateway, DEV, policy={"lowPriority": True})
    waiting = await scrape(gateway)
    assert waiting["flux_endpoint_jobs", DEV_ID, "IN_QUEUE"] == 2
    assert waiting["flux_endpoint_jobs", SCHNELL_ID, "IN_QUEUE"] == 0
    assert waiting["flux_endpoint_pressing_jobs", DEV_ID] == 1
    assert waiting["flux_endpoint_pressing_jobs", SCHNELL_ID] == 0
    assert waiting["flux_endpoint_queue_oldest_age_seconds", DEV_ID] >= 10
    for _ in range(2):
        job = await worker.take()
        assert job is not None
        await worker.done(job, {"error": "no"})
    await draw(gateway, worker)
    after = await scrape(gateway)
    assert after["flux_endpoint_jobs", DEV_ID, "IN_QUEUE"] == 0
    assert after["flux_endpoint_queue_oldest_age_seconds", DEV_ID] == 0
    assert after["flux_endpoint_jobs_ended_total", DEV_ID, "FAILED"] == 2
    assert after["flux_endpoint_jobs_ended_total", DEV_ID, "COMPLETED"] == 1
    # Of completed jobs only; bounds are cumulated.
    assert after["flux_endpoint_execution_seconds_bucket", DEV_ID, "0.25"] == 0
    assert after["flux_endpoint_execution_seconds_bucket", DEV_ID, "0.5"] == 1
    assert after["flux_endpoint_execution_seconds_bucket", DEV_ID, "+Inf"] == 1
    assert after["flux_endpoint_execution_seconds_sum", DEV_ID] == pytest.approx(0.4, abs=0.01)
    assert after["flux_endpoint_delay_seconds_bucket", DEV_ID, "0.05"] == 1
    assert after["flux_endpoint_spend_dollars_total", DEV_ID] == pytest.approx(0.02097152)
    assert after["flux_endpoint_worker_steps_total", "worker-1"] == 7
    assert after["flux_endpoint_picture_bytes_total",] > 0
    assert sum(number for (name, *_), number in after.items() if name == "flux_endpoint_workers") == 1


async def test_nothing_is_counted_twice(gateway: Gateway, worker: HandWorker) -> None:
    for number in range(1, 4):
        await draw(gateway, worker)
        for _ in range(2):
            seen = await scrape(gateway)
            assert seen["flux_endpoint_jobs_ended_total", DEV_ID, "COMPLETED"] == number
            assert seen["flux_endpoint_execution_seconds_count", DEV_ID] == number


async def test_lost_workers_and_webhooks_are_counted(gateway: Gateway, worker: HandWorker) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}, "webhook": "https://hook.example/"})
    assert reply.status_code == 200
    for _ in range(2):
        assert await worker.take() is not None
        gateway.clock.advance(ms=40_000)
        await gateway.services.workforce.sweep()
    await gateway.send_due()
    seen = await scrape(gateway)
    assert seen["flux_endpoint_lost_leases_total", "requeued"] == 1
    assert seen["flux_endpoint_lost_leases_total", "failed"] == 1
    assert seen["flux_endpoint_webhook_attempts_total", "delivered"] == 1
    assert seen["flux_endpoint_job_retries_total", DEV_ID] == 1


async def test_they_are_for_keys_that_see_everything(gateway: Gateway) -> None:
    anybody = await gateway.client.get("/metrics", headers={"Authorization": ""})
    assert anybody.status_code == 401
    limits = KeyLimits(endpoint_ids=frozenset({DEV_ID}))
    _, guest = await gateway.services.accounts.create("guest", limits=limits)
    reply = await gateway.get("/metrics", headers={"Authorization": f"Bearer {guest}"})
    assert (reply.status_code, "all endpoints" in reply.json()["error"]) == (403, True)
    _, watcher = await gateway.services.accounts.create("prometheus", limits=KeyLimits(is_read_only=True))
    assert await scrape(gateway, headers={"Authorization": f"Bearer {watcher}"})
