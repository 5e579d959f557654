"""What the operations on jobs answer, state by state: each answer is a file in `golden/`."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import DEV, ECHO, SCHNELL, Gateway, HandWorker
from tests.api.golden_files import GOLDEN, GoldenFiles, assert_no_null

pytestmark = pytest.mark.anyio

HOOK = "https://hooks.example/flux?token=geheim"
ASKED = {"input": {"prompt": "a lake", "seed": 42}}
WRONG = {"input": {"prompt": "a lake", "width": 300}}
STEP = {"step": 3, "total": 28, "eta_ms": 2500}
PREVIEW = "data:image/jpeg;base64,/9j/4AAQ"


async def run(gateway: Gateway, endpoint: str = DEV, **envelope: Any) -> str:
    reply = await gateway.post(f"{endpoint}/run", ASKED | envelope)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def take(worker: HandWorker, gateway: Gateway, waited_ms: int = 70) -> dict[str, Any]:
    gateway.clock.advance(ms=waited_ms)
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(ms=500)
    return job


async def status(gateway: Gateway, job_id: str, endpoint: str = DEV) -> httpx.Response:
    return await gateway.get(f"{endpoint}/status/{job_id}")


async def lose_worker(gateway: Gateway) -> None:
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()


async def test_run(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("run", await noon.post(f"{DEV}/run", ASKED))
    golden.check("run-refused", await noon.post(f"{DEV}/run", WRONG))
    golden.check("run-wrong-policy", await noon.post(f"{DEV}/run", ASKED | {"policy": {"ttl": 1}}))


async def test_runsync_done(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    held = asyncio.create_task(noon.post(f"{DEV}/runsync", ASKED))
    job = await worker.take_next()
    noon.clock.advance(ms=3_986)
    await worker.finish(job)
    golden.check("runsync-completed", await held)


async def test_runsync_failed(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    held = asyncio.create_task(noon.post(f"{DEV}/runsync", ASKED))
    job = await worker.take_next()
    await worker.done(job, {"error": "the device ran out of memory"})
    golden.check("runsync-failed", await held)


async def test_runsync_refused(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("runsync-refused", await noon.post(f"{DEV}/runsync", WRONG))
    golden.check("runsync-wrong-wait", await noon.post(f"{DEV}/runsync?wait=999", ASKED))


async def test_a_wait_that_is_over(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    job_id, waiting = await run(noon), await run(noon, SCHNELL)
    await worker.send(await take(worker, noon), STEP)
    name = {"Idempotency-Key": "one"}
    queued = await noon.post(f"{DEV}/runsync?wait=1000", ASKED, headers=name)
    await worker.send(await take(worker, noon), STEP)
    replies = await asyncio.gather(
        noon.post(f"{DEV}/runsync?wait=1000", ASKED, headers=name),
        noon.get(f"{DEV}/status-sync/{job_id}?wait=1000"),
        noon.get(f"{SCHNELL}/status-sync/{waiting}?wait=1000"),
        noon.get(f"{SCHNELL}/stream/{waiting}?wait=1000"),
    )
    golden.check("runsync-wait-over-in-queue", queued)
    for file, reply in zip(
        ("runsync-wait-over-in-progress", "status-sync-in-progress", "status-sync-in-queue", "stream-in-queue"),
        replies,
        strict=True,
    ):
        golden.check(file, reply)


async def test_status_from_queue_to_picture(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    job_id, second = await run(noon), await run(noon)
    golden.check("status-in-queue", await status(noon, second))
    job = await take(worker, noon)
    golden.check("status-in-progress", await status(noon, job_id))
    await worker.send(job, STEP | {"preview": PREVIEW})
    golden.check("status-in-progress-with-progress", await status(noon, job_id))
    await worker.finish(job)
    golden.check("status-completed", await status(noon, job_id))
    golden.check("status-by-post-completed", await noon.post(f"{DEV}/status/{job_id}"))
    golden.check("status-sync-completed", await noon.post(f"{DEV}/status-sync/{job_id}"))
    golden.check("cancel-completed", await noon.post(f"{DEV}/cancel/{job_id}"))
    golden.check("status-with-ttl", await noon.get(f"{DEV}/status/{second}?ttl=6000"))
    await worker.finish(await take(worker, noon), "the prompt was cut at 512 tokens")
    golden.check("status-completed-with-warnings", await status(noon, second))


async def test_status_failed(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    failed = await run(noon)
    await worker.done(await take(worker, noon), {"error": "the device ran out of memory"})
    golden.check("status-failed", await status(noon, failed))
    golden.check("status-sync-failed", await noon.get(f"{DEV}/status-sync/{failed}"))
    golden.check("stream-failed", await noon.get(f"{DEV}/stream/{failed}"))
    golden.check("retry", await noon.post(f"{DEV}/retry/{failed}"))
    golden.check("retry-in-queue", await noon.post(f"{DEV}/retry/{failed}"))
    await worker.finish(await take(worker, noon))
    golden.check("status-completed-after-retry", await status(noon, failed))


async def test_status_of_a_job_that_lost_its_worker(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    job_id = await run(noon)
    await take(worker, noon)
    await lose_worker(noon)
    golden.check("status-in-queue-again", await status(noon, job_id))
    await take(worker, noon)
    golden.check("status-in-progress-again", await status(noon, job_id))
    await lose_worker(noon)
    golden.check("status-failed-after-retries", await status(noon, job_id))


async def test_status_timed_out(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    job_id = await run(noon, policy={"executionTimeout": 5_000, "ttl": 60_000})
    await take(worker, noon)
    noon.clock.advance(ms=4_500)
    await noon.janitor.sweep()
    golden.check("status-timed-out", await status(noon, job_id))
    golden.check("stream-timed-out", await noon.get(f"{DEV}/stream/{job_id}"))
    golden.check("retry-timed-out", await noon.post(f"{DEV}/retry/{job_id}"))
    noon.clock.advance(s=60)
    golden.check("status-expired", await status(noon, job_id))


async def test_status_cancelled(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    running, waiting = await run(noon), await run(noon)
    await take(worker, noon)
    golden.check("cancel-in-progress", await noon.post(f"{DEV}/cancel/{running}", {}))
    golden.check("cancel-in-queue", await noon.post(f"{DEV}/cancel/{waiting}"))
    golden.check("status-cancelled-while-running", await status(noon, running))
    golden.check("status-cancelled-while-waiting", await status(noon, waiting))
    golden.check("stream-cancelled", await noon.get(f"{DEV}/stream/{waiting}"))
    golden.check("retry-cancelled", await noon.post(f"{DEV}/retry/{waiting}"))


async def test_stream(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    job_id = await run(noon)
    job = await take(worker, noon)
    await worker.send(job, STEP | {"step": 2})
    await worker.send(job, STEP | {"preview": PREVIEW})
    golden.check("stream-in-progress", await noon.get(f"{DEV}/stream/{job_id}"))
    await worker.send(job, STEP | {"step": 28, "eta_ms": 0})
    await worker.finish(job)
    golden.check("stream-completed", await noon.post(f"{DEV}/stream/{job_id}"))
    golden.check("stream-completed-and-read", await noon.get(f"{DEV}/stream/{job_id}"))


async def test_an_endpoint_of_ones_own(noon: Gateway, golden: GoldenFiles) -> None:
    worker = HandWorker(noon.client, endpoint=ECHO)
    job_id, other = await run(noon, ECHO), await run(noon, ECHO)
    job = await take(worker, noon)
    await worker.done(job, {"status": "IN_PROGRESS", "output": "half of it"})
    golden.check("own-status-in-progress-with-output", await status(noon, job_id, ECHO))
    await worker.done(job, {"output": ["any", {"json": 1.5}]})
    golden.check("own-status-completed", await status(noon, job_id, ECHO))
    await worker.done(await take(worker, noon), {"error": "bad size", "output": {"rest": True}})
    golden.check("own-status-failed-with-output", await status(noon, other, ECHO))


async def test_queue_and_health(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    for _ in range(4):
        await run(noon)
    await worker.finish(await take(worker, noon))
    await take(worker, noon)
    golden.check("health", await noon.get(f"{DEV}/health"))
    golden.check("purge-queue", await noon.post(f"{DEV}/purge-queue", {}))


async def test_webhooks(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    ends = [await run(noon, webhook=HOOK) for _ in range(3)]
    await worker.finish(await take(worker, noon))
    await worker.done(await take(worker, noon), {"error": "the device ran out of memory"})
    await noon.post(f"{DEV}/cancel/{ends[2]}")
    await noon.send_due()
    told = {sent.json["id"]: sent for sent in noon.sender.sent}
    for name, job_id in zip(("webhook-completed", "webhook-failed", "webhook-cancelled"), ends, strict=True):
        sent = told[job_id]
        request = {"request": f"{sent.method} {sent.url}", "headers": dict(sent.headers)}
        golden.compare(name, request | {"body": sent.json})


@pytest.mark.parametrize("value", [None, {"a": [1, {"b": None}]}])
async def test_a_null_is_found_however_deep(value: Any) -> None:
    with pytest.raises(AssertionError, match="null at"):
        assert_no_null(value)


async def test_every_golden_file_is_compared_with_something() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_golden*.py"))
    assert {path.stem for path in GOLDEN.iterdir()} <= set(re.findall(r'"([\w-]+)"', sources))
