"""`/events`: one job, followed live by any number of onlookers."""

import asyncio
import json

import httpx
import pytest

from flux_endpoint.service.job_views import NO_WORKER
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio
FIGURES = {"step": 3, "total": 28, "eta_ms": 2500}
PREVIEW = "data:image/jpeg;base64,/9j/4AAQ"


async def onlooker_of(gateway: Gateway, job_id: str) -> Onlooker:
    onlooker = Onlooker(gateway, f"{DEV}/events/{job_id}")
    assert await onlooker.block() == "retry: 2000\n\n"
    return onlooker


async def test_a_job_is_followed_from_the_queue_to_its_picture(gateway: Gateway, worker: HandWorker) -> None:
    first, second = await gateway.submit(), await gateway.submit()
    onlookers = [await onlooker_of(gateway, second) for _ in range(2)]
    for onlooker in onlookers:
        assert await onlooker.status() == {"id": second, "status": "IN_QUEUE", "queuePosition": 2, "notice": NO_WORKER}
    job = await worker.take()
    assert job is not None
    assert job["id"] == first
    for onlooker in onlookers:
        assert (await onlooker.status())["queuePosition"] == 1
    job = await worker.take()
    assert job is not None
    running = {"id": second, "status": "IN_PROGRESS", "delayTime": 0, "workerId": "worker-1"}
    for onlooker in onlookers:
        assert await onlooker.status() == running
    await worker.send(job, FIGURES | {"preview": PREVIEW})
    for onlooker in onlookers:
        assert await onlooker.status() == running | {"progress": FIGURES | {"preview": PREVIEW}}
    # Looking on takes nothing away from /stream.
    assert (await gateway.get(f"{DEV}/stream/{second}")).json()["stream"] == [
        {"output": FIGURES | {"preview": PREVIEW}}
    ]
    await worker.finish(job)
    whole = (await gateway.get(f"{DEV}/status/{second}")).json()
    assert whole["status"] == "COMPLETED"
    for onlooker in onlookers:
        assert await onlooker.status() == whole
        assert await onlooker.piece() == ""
        await onlooker.task
    assert len(gateway.stores.database.signals) == 0


async def test_the_whole_of_a_finished_job_is_one_message(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit()
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "out of\nmemory"})
    reply = await gateway.get(f"{DEV}/events/{job['id']}")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    retry, message, rest = reply.text.split("\n\n")
    assert (retry, rest) == ("retry: 2000", "")
    id_line, event_line, data_line = message.split("\n")
    assert event_line == "event: status"
    assert json.loads(data_line.removeprefix("data: ")) == (await gateway.get(f"{DEV}/status/{job['id']}")).json()
    # A browser that comes back by itself is sent away for good.
    again = await gateway.get(f"{DEV}/events/{job['id']}", headers={"Last-Event-ID": id_line.removeprefix("id: ")})
    assert (again.status_code, again.content) == (204, b"")
    stale = await gateway.get(f"{DEV}/events/{job['id']}", headers={"Last-Event-ID": "0123456789abcdef"})
    assert stale.text == reply.text


async def test_whoever_comes_back_is_told_only_what_is_new(gateway: Gateway) -> None:
    job_id = await gateway.submit()
    onlooker = await onlooker_of(gateway, job_id)
    seen = (await onlooker.block()).split("\n")[0].removeprefix("id: ")
    onlooker.leave()
    back = Onlooker(gateway, f"{DEV}/events/{job_id}", last_event_id=seen)
    assert await back.block() == "retry: 2000\n\n"
    assert (await back.block(comments=True)).startswith(": ")
    await gateway.post(f"{DEV}/cancel/{job_id}")
    assert await back.status() == {"id": job_id, "status": "CANCELLED"}


async def test_silence_is_broken_by_comments(gateway: Gateway) -> None:
    onlooker = await onlooker_of(gateway, await gateway.submit())
    await onlooker.status()
    for _ in range(2):
        assert await onlooker.block(comments=True) == ": nothing new\n\n"
    onlooker.leave()
    await onlooker.task


async def test_an_onlooker_who_leaves_is_forgotten(gateway: Gateway) -> None:
    onlooker = await onlooker_of(gateway, await gateway.submit())
    await onlooker.status()
    onlooker.leave()
    async with asyncio.timeout(20):
        await onlooker.task
    assert len(gateway.stores.database.signals) == 0


async def test_the_end_of_the_process_ends_the_stream(gateway: Gateway) -> None:
    onlooker = await onlooker_of(gateway, await gateway.submit())
    await onlooker.status()
    gateway.stores.drain()
    while await onlooker.piece():
        pass
    await onlooker.task


async def test_a_job_whose_time_is_over_is_gone(gateway: Gateway) -> None:
    job_id = await gateway.submit()
    onlooker = await onlooker_of(gateway, job_id)
    await onlooker.status()
    gateway.clock.advance(days=1)
    block = await onlooker.block()
    assert block.startswith("event: gone\ndata: {")
    assert job_id in json.loads(block.split("data: ")[1])["error"]
    assert await onlooker.piece() == ""


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (f"{DEV}/events/no-such-job", {}, 404),
        (f"{SCHNELL}/events/{{job_id}}", {}, 404),
        ("/v2/no-such-endpoint/events/{job_id}", {}, 404),
        (f"{DEV}/events/{{job_id}}", {"Authorization": "Bearer wrong"}, 401),
        (f"{DEV}/events/{{job_id}}", {"Authorization": ""}, 401),
    ],
)
async def test_errors_come_before_the_stream(gateway: Gateway, path: str, headers: dict[str, str], code: int) -> None:
    job_id = await gateway.submit()
    reply: httpx.Response = await gateway.get(path.format(job_id=job_id), headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (code, "application/json")
    assert reply.json()["error"]
