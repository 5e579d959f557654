"""The worker protocol over HTTP, as a worker of somebody else's speaks it (contract section 5)."""

import asyncio
import logging

import pytest

from flux_endpoint.core.job import Completed
from flux_endpoint.service.workforce import Workforce
from tests.api.asking import status, submit, until_held, workers
from tests.api.conftest import DEV, ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio


async def test_a_batch_is_a_list_of_at_most_so_many(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_ids = [await submit(gateway) for _ in range(3)]
    reply = await third_party.get("job-take-batch", "&batch_size=2&job_in_progress=0")
    assert [job["id"] for job in reply.json()] == job_ids[:2]
    reply = await third_party.get("job-take-batch", "&batch_size=5&job_in_progress=1")
    assert [job["id"] for job in reply.json()] == job_ids[2:]
    assert (await third_party.get("job-take-batch", "&batch_size=5")).status_code == 204
    for size in ("0", "101", "-1", "two"):
        assert (await third_party.get("job-take-batch", f"&batch_size={size}")).status_code == 400


async def test_a_cancelled_job_is_told_on_the_stop_channel_once(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    await gateway.post(f"{ECHO}/cancel/{job_id}")
    assert (await third_party.get("job-stop")).json() == {"jobsToStop": [job_id]}
    assert (await third_party.get("job-stop")).status_code == 204


@pytest.mark.parametrize("extra", ["&runpod_version=1.12.0", "&retry_ping=1", ""])
async def test_pings_keep_a_job_through_many_leases(
    gateway: Gateway, third_party: ThirdPartyWorker, extra: str
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    for _ in range(10):
        gateway.clock.advance(s=20)
        assert (await third_party.get("ping", f"&job_id={job_id}{extra}")).status_code == 200
        await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    assert (await third_party.get("ping", "&job_id=")).json() == {"jobsToStop": []}


async def test_a_ping_names_a_thousand_jobs_at_most(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    others = [f"other-{number}" for number in range(1_000)]
    reply = await third_party.get("ping", f"&job_id={','.join([job_id, *others])}")
    assert reply.status_code == 400
    assert reply.json() == {"error": "Invalid request: job_id names 1001 jobs; a ping may name 1000"}
    # The same name again is no more work.
    reply = await third_party.get("ping", f"&job_id={','.join([job_id] * 1_100 + others[:999])}")
    assert reply.json() == {"jobsToStop": sorted(others[:999])}


async def test_an_endpoint_that_is_named_often_is_served_once(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=",".join([ECHO] + ["echo"] * 3_000))
    job_id = await submit(gateway)
    assert (await worker.take())["id"] == job_id
    assert (await worker.get("ping", f"&job_id={job_id}")).json() == {"jobsToStop": []}


async def test_lost_pings_cost_one_more_try_and_then_the_job(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_id = await submit(gateway)
    for retries in (0, 1):
        assert (await third_party.take())["id"] == job_id
        assert (await status(gateway, job_id)).get("retries", 0) == retries
        gateway.clock.advance(s=31)
        await gateway.janitor.sweep()
    body = await status(gateway, job_id)
    assert (body["status"], body["error"], body["retries"]) == ("FAILED", "job timed out after 1 retries", 1)


async def test_health_follows_a_worker(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    assert await workers(gateway) == {}
    await third_party.get("ping")
    assert await workers(gateway) == {"initializing": 1}
    await third_party.get("job-take")
    assert await workers(gateway) == {"idle": 1, "ready": 1}
    job_id = await submit(gateway)
    await third_party.take()
    assert await workers(gateway) == {"ready": 1, "running": 1}
    await third_party.done(job_id, {})
    # It has not asked for the next one yet.
    assert await workers(gateway) == {"ready": 1, "running": 1}
    await third_party.get("job-take")
    assert await workers(gateway) == {"idle": 1, "ready": 1}
    assert await workers(gateway, DEV) == {}
    gateway.clock.advance(s=61)
    assert await workers(gateway) == {"unhealthy": 1}
    gateway.clock.advance(s=300)
    await gateway.janitor.sweep()
    assert await workers(gateway) == {}


async def test_an_endpoint_is_served_by_who_works_or_starts(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    workforce = gateway.services.workforce
    assert not await workforce.serves("echo")
    await workforce.own.expect(third_party.id, ["echo"])
    assert await workforce.serves("echo")
    await third_party.get("job-take")
    assert await workforce.serves("echo")
    assert not await workforce.serves("black-forest-labs-flux-1-dev")
    await third_party.get("ping", "&status=unhealthy&reason=hot")
    assert not await workforce.serves("echo")


async def test_an_unhealthy_worker_loses_its_jobs_and_gets_no_more(
    gateway: Gateway, third_party: ThirdPartyWorker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    with caplog.at_level(logging.WARNING):
        reply = await third_party.get("ping", f"&status=unhealthy&check=gpu&reason={'x' * 500}&runpod_version=1.12.0")
    assert reply.status_code == 200
    assert f"pod-1 is unhealthy: gpu: {'x' * 251}\n" in caplog.text
    assert await workers(gateway) == {"unhealthy": 1}
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    assert (await third_party.get("job-take")).status_code == 204
    assert (await third_party.get("job-take-batch", "&batch_size=2")).status_code == 204
    await third_party.get("ping", "&runpod_version=1.12.0")
    assert (await third_party.take())["id"] == job_id
    assert (await status(gateway, job_id))["retries"] == 1


async def test_a_held_take_of_a_worker_that_becomes_unhealthy_is_not_served(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    waiting = asyncio.create_task(workforce.take("pod-1", ["echo"], 60))
    await until_held(workforce, "pod-1")
    await workforce.ping_unhealthy("pod-1", ["echo"], "hot")
    job_id = await submit(gateway)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await workforce.ping("pod-1", ["echo"], [])
    assert [claim.job.id for claim in await waiting] == [job_id]


async def test_a_worker_that_asks_for_a_restart_gets_nothing_until_it_has_been(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    first, second = await submit(gateway), await submit(gateway)
    await third_party.take()
    stopping = asyncio.create_task(gateway.services.workforce.stops("pod-1", ["echo"], 60))
    await until_held(gateway.services.workforce, "pod-1")
    await third_party.done(first, {"output": 1, "stopPod": True})
    # A process that ends after its job is not held up by its call on the stop channel.
    assert await asyncio.wait_for(stopping, 30) == []
    assert (await status(gateway, first))["status"] == "COMPLETED"
    assert await workers(gateway) == {"initializing": 1}
    # The process goes on: it asks a second after its last job, and then again as soon as it is answered.
    for pause_ms in (1_000, 100, 0, 1_100):
        gateway.clock.advance(ms=pause_ms)
        await third_party.get("ping")
        assert (await third_party.get("job-take")).status_code == 204
    # It has been restarted: nobody asked for a while.
    gateway.clock.advance(s=3)
    assert (await third_party.take())["id"] == second


async def test_a_leaving_worker_that_drops_its_call_has_ended(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    first, second = await submit(gateway), await submit(gateway)
    await third_party.take()
    await third_party.done(first, {"stopPod": True})
    gateway.clock.advance(s=1)
    held = asyncio.create_task(gateway.services.workforce.take("pod-1", ["echo"], 60))
    await until_held(gateway.services.workforce, "pod-1")
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert (await third_party.take())["id"] == second


async def test_several_gateways_agree_on_the_workers(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    first = gateway.services.workforce
    second = Workforce(first._store, gateway.stores.workers, first.reports._pictures, first._catalog, gateway.clock)
    await third_party.get("job-take")
    assert (await second.counts("echo")).idle == 1
    assert await second.take("pod-2", ["echo"], 0) == []
    await second.ping_unhealthy("pod-1", ["echo"], "hot")
    assert await workers(gateway) == {"idle": 1, "ready": 1, "unhealthy": 1}
    await submit(gateway)
    gateway.clock.advance(s=6)
    assert (await third_party.get("job-take")).status_code == 204


async def test_a_busy_worker_is_handed_a_job_that_is_short_enough_past_longer_ones(gateway: Gateway) -> None:
    sizes = [{"width": 1536, "height": 1536, "num_inference_steps": 50}, {"width": 256, "height": 256}]
    inputs = [{"prompt": "a lake", "num_inference_steps": 4, **size} for size in sizes]
    long, short = [await submit(gateway, DEV, input=fields) for fields in inputs]
    worker = ThirdPartyWorker(gateway, endpoint=DEV)
    assert (await worker.get("job-take", "&job_in_progress=1&atMost=1&holdMs=1")).status_code == 204
    reply = await worker.get("job-take", "&job_in_progress=1&atMost=10000&holdMs=1")
    assert reply.json()["id"] == short
    assert (await worker.get("job-take", "&job_in_progress=1&atMost=10000&holdMs=1")).status_code == 204
    assert (await worker.get("job-take", "&job_in_progress=1&atMost=-1")).status_code == 400
    assert (await worker.take())["id"] == long


async def test_an_idle_worker_comes_before_a_busy_one(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    for number in range(10):
        busy = asyncio.create_task(workforce.take("busy", ["echo"], 60, is_free=False))
        await until_held(workforce, "busy")
        idle = asyncio.create_task(workforce.take("idle", ["echo"], 60, is_free=True))
        await until_held(workforce, "idle")
        first = await submit(gateway)
        assert [claim.job.id for claim in await idle] == [first]
        # Nobody else is there for the next one.
        assert not busy.done()
        second = await submit(gateway)
        assert [claim.job.id for claim in await busy] == [second], number
        await workforce.reports.done(["echo"], "idle", first, None, Completed(1))


async def test_a_throttled_worker_is_counted_and_served_last(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    for name, step_us in (("quick-1", 20_000), ("quick-2", 21_000), ("slow", 40_000)):
        await workforce.take(name, ["echo"], 0, fingerprint="cards of one kind")
        await workforce.note_step(name, step_us)
    assert await workers(gateway) == {"idle": 2, "ready": 2, "throttled": 1}
    details = (await gateway.get(f"{ECHO}/health?details=true")).json()["details"]
    assert details[2]["state"] == "throttled"
    assert details[2]["reason"] == "its step takes 40.0 ms, 21.0 ms is usual for its kind"
    for number in range(5):
        slow = asyncio.create_task(workforce.take("slow", ["echo"], 60, is_free=True))
        await until_held(workforce, "slow")
        quick = asyncio.create_task(workforce.take("quick-1", ["echo"], 60, is_free=True))
        await until_held(workforce, "quick-1")
        first = await submit(gateway)
        assert [claim.job.id for claim in await quick] == [first]
        # No other one is free for the next one.
        assert not slow.done()
        second = await submit(gateway)
        assert [claim.job.id for claim in await slow] == [second], number
        assert await workers(gateway) == {"idle": 1, "ready": 2, "running": 1, "throttled": 1}
        for name, job_id in (("quick-1", first), ("slow", second)):
            await workforce.reports.done(["echo"], name, job_id, None, Completed(1))
    # It has cooled down.
    await workforce.note_step("slow", 22_000)
    assert await workers(gateway) == {"idle": 1, "ready": 3, "running": 2}


async def test_a_throttled_worker_that_is_the_only_one_serves(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    for name, step_us in (("quick", 20_000), ("slow", 90_000)):
        await workforce.take(name, ["echo"], 0, fingerprint="cards of one kind")
        await workforce.note_step(name, step_us)
    await workforce.ping_unhealthy("quick", ["echo"], "too hot")
    assert await workers(gateway) == {"throttled": 1, "unhealthy": 1}
    assert await workforce.serves("echo")
    job_id = await submit(gateway)
    assert [claim.job.id for claim in await workforce.take("slow", ["echo"], 60, is_free=True)] == [job_id]


async def test_a_worker_tells_its_step_with_a_ping(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    await third_party.get("job-take", "&fingerprint=one+kind")
    assert (await third_party.get("ping", "&stepUs=20000")).status_code == 200
    record = await gateway.services.workforce._registry._store.get_worker(third_party.id)
    assert record is not None
    assert record.step_us == 20_000
    for bad in ("0", "-1", "fast", "1" * 20):
        assert (await third_party.get("ping", f"&stepUs={bad}")).status_code == 400
