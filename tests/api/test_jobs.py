"""The life of a job as clients see it, state by state, key by key."""

import asyncio
import re
from typing import Any

import pytest

from flux_endpoint.service.job_views import NO_WORKER
from tests.api.conftest import DEV, PUBLIC_URL, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


async def status(gateway: Gateway, job_id: str, endpoint: str = DEV) -> dict[str, Any]:
    reply = await gateway.get(f"{endpoint}/status/{job_id}")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert "null" not in reply.text
    return reply.json()


async def take(worker: HandWorker) -> dict[str, Any]:
    job = await worker.take()
    assert job is not None
    return job


async def test_run_answers_at_once_with_an_id(gateway: Gateway) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}})
    assert reply.status_code == 200
    assert reply.json() == {"id": reply.json()["id"], "status": "IN_QUEUE"}
    assert re.fullmatch(rf"{UUID}-u1", reply.json()["id"])


async def test_runsync_holds_until_the_picture_is_there(gateway: Gateway, worker: HandWorker) -> None:
    body = {"input": {"prompt": "a lake", "image_format": "png", "seed": 42}}
    held = asyncio.create_task(gateway.post(f"{DEV}/runsync", body))
    job = await worker.take_next()
    gateway.clock.advance(ms=3986)
    await worker.finish(job)
    reply = await held
    assert reply.status_code == 200
    answer = reply.json()
    assert re.fullmatch(rf"sync-{UUID}-u1", answer["id"])
    url = answer["output"]["image_url"]
    assert answer == {
        "id": answer["id"],
        "status": "COMPLETED",
        "delayTime": 0,
        "executionTime": 3986,
        "workerId": "worker-1",
        "output": {"image_url": url, "result": url, "cost": 0.02097152, "seed": 42},
    }
    assert re.fullmatch(rf"{PUBLIC_URL}/images/[\w-]{{43}}\.png", url)
    assert '"cost":0.02097152' in reply.text


async def test_runsync_answers_the_state_when_the_wait_runs_out(gateway: Gateway, worker: HandWorker) -> None:
    # The hand-moved clock does not shorten real waiting: 1000 ms is the least that may be asked for.
    queued = (await gateway.post(f"{DEV}/runsync?wait=1000", {"input": {"prompt": "a"}})).json()
    assert queued == {"id": queued["id"], "status": "IN_QUEUE"}
    await worker.finish(await take(worker))
    assert (await status(gateway, queued["id"]))["status"] == "COMPLETED"


@pytest.mark.parametrize("wait", ["999", "300001", "-1", "abc", "", "1e4", "٣٠٠٠"])
async def test_bad_wait_is_refused_in_the_words_of_the_service(gateway: Gateway, wait: str) -> None:
    reply = await gateway.post(f"{DEV}/runsync", {"input": {"prompt": "a"}}, params={"wait": wait})
    assert reply.status_code == 400
    assert reply.json() == {"error": "wait is invalid; must be between 1000 and 300000"}


async def test_each_state_has_its_keys_and_no_others(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    assert await status(gateway, job_id) == {
        "id": job_id,
        "status": "IN_QUEUE",
        "queuePosition": 1,
        "notice": NO_WORKER,
    }
    gateway.clock.advance(ms=70)
    job = await take(worker)
    running = {"id": job_id, "status": "IN_PROGRESS", "delayTime": 70, "workerId": "worker-1"}
    assert await status(gateway, job_id) == running
    gateway.clock.advance(ms=500)
    await worker.finish(job, "prompt was cut")
    done = await status(gateway, job_id)
    assert done.pop("output")["warnings"] == ["prompt was cut"]
    assert done == running | {"status": "COMPLETED", "executionTime": 500}


async def test_failed_job_tells_why_and_costs_nothing(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    job = await take(worker)
    await worker.done(job, {"error": "the device ran out of memory"})
    assert await status(gateway, job_id) == {
        "id": job_id,
        "status": "FAILED",
        "delayTime": 0,
        "executionTime": 0,
        "workerId": "worker-1",
        "error": "the device ran out of memory",
    }
    assert await gateway.stores.accounts.entries() == []


async def test_a_result_without_a_picture_is_a_failure(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await worker.done(await take(worker), {"output": {}})
    assert (await status(gateway, job_id))["error"] == "the worker returned no picture"


async def test_cancel_takes_a_job_out_of_the_queue(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    reply = await gateway.post(f"{DEV}/cancel/{job_id}")
    assert (reply.status_code, reply.json()) == (200, {"id": job_id, "status": "CANCELLED"})
    assert await worker.take() is None
    assert await status(gateway, job_id) == {"id": job_id, "status": "CANCELLED"}


async def test_cancel_reaches_the_worker_of_a_running_job(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    job = await take(worker)
    assert (await gateway.post(f"{DEV}/cancel/{job_id}", {})).json()["status"] == "CANCELLED"
    stop = await gateway.client.get(f"{DEV}/job-stop/worker-1", headers=worker.headers)
    assert stop.json() == {"jobsToStop": [job_id]}
    late = await worker.deliver(job)
    assert late.status_code == 409
    assert (await worker.done(job, {"output": {"image_url": "http://x/y.png"}})).status_code == 409
    assert (await status(gateway, job_id))["status"] == "CANCELLED"
    assert await gateway.stores.accounts.entries() == []


async def test_cancel_of_a_finished_job_changes_nothing(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await worker.finish(await take(worker))
    assert (await gateway.post(f"{DEV}/cancel/{job_id}")).json() == {"id": job_id, "status": "COMPLETED"}


async def test_a_completed_job_is_charged_once_to_its_key(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit(width=512, height=256)
    job = await take(worker)
    for _ in range(2):
        assert (await worker.deliver(job)).status_code == 200
    (entry,) = await gateway.stores.accounts.entries()
    (key,) = await gateway.services.accounts.list()
    assert (entry.job_id, entry.key_id, str(entry.amount_usd)) == (job_id, key.id, "0.00262144")


async def test_schnell_has_its_own_price_and_queue(gateway: Gateway) -> None:
    worker = HandWorker(gateway.client, "worker-2", SCHNELL)
    await gateway.submit(DEV)
    job_id = await gateway.submit(SCHNELL)
    await worker.finish(await take(worker))
    assert (await status(gateway, job_id, SCHNELL))["output"]["cost"] == 0.00251658
    assert (await gateway.get(f"{DEV}/status/{job_id}")).status_code == 404


async def test_one_worker_may_serve_both_endpoints_oldest_job_first(gateway: Gateway) -> None:
    both = HandWorker(gateway.client, endpoint=f"{DEV},{SCHNELL.removeprefix('/v2/')}")
    first, second = await gateway.submit(SCHNELL), await gateway.submit(DEV)
    taken = [await take(both), await take(both)]
    assert [(job["id"], f"/v2/{job['endpointId']}") for job in taken] == [(first, SCHNELL), (second, DEV)]


async def test_a_lost_worker_costs_one_retry_then_the_job_fails(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await take(worker)
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    again = {"id": job_id, "status": "IN_QUEUE", "queuePosition": 1}
    assert await status(gateway, job_id) == again | {"notice": "no worker serves this endpoint"}
    await take(worker)
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    failed = await status(gateway, job_id)
    assert (failed["status"], failed["error"], failed["retries"]) == ("FAILED", "job timed out after 1 retries", 1)


async def test_a_pinged_lease_does_not_run_out(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await take(worker)
    for _ in range(3):
        gateway.clock.advance(s=20)
        reply = await gateway.client.get(f"{DEV}/ping/worker-1?job_id={job_id}", headers=worker.headers)
        assert reply.json() == {"jobsToStop": []}
        await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


async def test_a_returned_job_waits_again_without_blame(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await worker.done(await take(worker), {"returned": True})
    again = await take(worker)
    assert again["id"] == job_id
    assert "retries" not in await status(gateway, job_id)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_status_sync_holds_until_the_end(gateway: Gateway, worker: HandWorker, method: str) -> None:
    job_id = await gateway.submit()
    job = await take(worker)
    held = asyncio.create_task(gateway.client.request(method, f"{DEV}/status-sync/{job_id}?wait=300000"))
    await worker.finish(job)
    assert (await held).json()["status"] == "COMPLETED"


async def test_status_sync_answers_the_state_when_the_wait_runs_out(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await take(worker)
    reply = await gateway.get(f"{DEV}/status-sync/{job_id}?wait=1000")
    assert reply.json() == {"id": job_id, "status": "IN_PROGRESS", "delayTime": 0, "workerId": "worker-1"}


async def test_a_failed_job_can_be_retried_and_is_charged_once(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    first = await take(worker)
    await worker.done(first, {"error": "the device ran out of memory"})
    gateway.clock.advance(s=20)
    reply = await gateway.post(f"{DEV}/retry/{job_id}")
    assert (reply.status_code, reply.json()) == (200, {"id": job_id, "status": "IN_QUEUE"})
    assert await status(gateway, job_id) == {"id": job_id, "status": "IN_QUEUE", "queuePosition": 1}
    gateway.clock.advance(ms=40)
    second = await take(worker)
    assert second["input"] == first["input"]
    await worker.finish(second)
    done = await status(gateway, job_id)
    assert (done["status"], done["delayTime"]) == ("COMPLETED", 40)
    assert "error" not in done and "retries" not in done
    assert len(await gateway.stores.accounts.entries()) == 1


async def test_only_failed_jobs_that_ran_can_be_retried(gateway: Gateway) -> None:
    waiting = await gateway.submit()
    reply = await gateway.post(f"{DEV}/retry/{waiting}")
    assert reply.status_code == 409
    assert reply.json() == {"error": f"job {waiting} is IN_QUEUE; only a FAILED or TIMED_OUT job can be retried"}
    refused = (await gateway.post(f"{DEV}/run", {"input": {}})).json()["id"]
    reply = await gateway.post(f"{DEV}/retry/{refused}")
    assert reply.status_code == 409
    assert "refused before it was queued" in reply.json()["error"]


async def test_purge_cancels_what_waits_and_nothing_else(gateway: Gateway, worker: HandWorker) -> None:
    running = await gateway.submit()
    await take(worker)
    waiting = [await gateway.submit() for _ in range(3)]
    elsewhere = await gateway.submit(SCHNELL)
    reply = await gateway.post(f"{DEV}/purge-queue", {})
    assert (reply.status_code, reply.json()) == (200, {"removed": 3, "status": "completed"})
    assert [(await status(gateway, job_id))["status"] for job_id in waiting] == ["CANCELLED"] * 3
    assert (await status(gateway, running))["status"] == "IN_PROGRESS"
    assert (await status(gateway, elsewhere, SCHNELL))["status"] == "IN_QUEUE"
    assert (await gateway.post(f"{DEV}/purge-queue")).json()["removed"] == 0


async def test_health_counts_jobs_and_workers(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.services.workforce.own.expect("worker-0", ["black-forest-labs-flux-1-dev"])
    for _ in range(3):
        await gateway.submit()
    await worker.finish(await take(worker))
    await take(worker)
    assert (await gateway.get(f"{DEV}/health")).json() == {
        "jobs": {"completed": 1, "failed": 0, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {"idle": 0, "initializing": 1, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0},
    }
    gateway.clock.advance(s=61)
    assert (await gateway.get(f"{DEV}/health")).json()["workers"] == {
        # What is being started may take its time; what was at work and fell silent may not.
        **{"idle": 0, "initializing": 1, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 1}
    }


async def test_records_of_finished_jobs_are_forgotten_with_their_pictures(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    await worker.finish(await take(worker))
    gateway.clock.advance(days=7, s=1)
    await gateway.janitor.sweep()
    reply = await gateway.get(f"{DEV}/status/{job_id}")
    assert reply.status_code == 404
    assert len(await gateway.stores.accounts.entries()) == 1


async def test_a_worker_that_hangs_up_keeps_no_job(gateway: Gateway) -> None:
    """Cancelling `take` while it waits must not swallow the job that arrives next."""
    workforce = gateway.services.workforce
    waiting = asyncio.create_task(workforce.take("gone", [DEV.removeprefix("/v2/")], 10))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    job_id = await gateway.submit()
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"


async def test_a_worker_known_to_be_dead_gets_nothing_and_its_job_moves_on(
    gateway: Gateway, worker: HandWorker
) -> None:
    job_id = await gateway.submit()
    await take(worker)
    await gateway.services.workforce.own.lost(worker.id)
    assert await worker.take() is None
    again = await take(HandWorker(gateway.client, "worker-2"))
    assert again["id"] == job_id
