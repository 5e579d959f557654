"""`/stream`: what a job sends before its end, each piece once, held until there is news."""

import asyncio
from typing import Any

import pytest

from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio
STEP = {"step": 1, "total": 28, "eta_ms": 2700}


async def running_job(gateway: Gateway, worker: HandWorker) -> dict[str, Any]:
    await gateway.submit()
    job = await worker.take()
    assert job is not None
    return job


async def test_text_that_utf8_cannot_hold_reaches_the_client_escaped(gateway: Gateway, worker: HandWorker) -> None:
    job = await running_job(gateway, worker)
    url = f"{DEV}/job-stream/{worker.id}/{job['id']}"
    sent = await gateway.client.post(url, content=rb'{"output": "a\ud800b"}', headers=worker.headers)
    assert sent.status_code == 200
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.text == '{"status":"IN_PROGRESS","stream":[{"output":"a\\ud800b"}]}'


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_news_are_handed_out_once_and_in_order(gateway: Gateway, worker: HandWorker, method: str) -> None:
    job = await running_job(gateway, worker)
    for chunk in (STEP, "text", [1, None], 0):
        assert (await worker.send(job, chunk)).status_code == 200
    reply = await gateway.client.request(method, f"{DEV}/stream/{job['id']}")
    assert reply.json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": STEP}, {"output": "text"}, {"output": [1, None]}, {"output": 0}],
    }
    reply = await gateway.get(f"{DEV}/stream/{job['id']}?wait=1000")
    assert reply.json() == {"status": "IN_PROGRESS", "stream": []}


async def test_a_reader_is_held_until_there_is_news(gateway: Gateway, worker: HandWorker) -> None:
    job = await running_job(gateway, worker)
    held = asyncio.create_task(gateway.get(f"{DEV}/stream/{job['id']}?wait=300000"))
    await asyncio.sleep(0)
    await worker.send(job, STEP)
    assert (await held).json()["stream"] == [{"output": STEP}]


async def test_the_first_terminal_reply_has_all_that_is_left(gateway: Gateway, worker: HandWorker) -> None:
    job = await running_job(gateway, worker)
    await worker.send(job, STEP)
    await worker.finish(job)
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json() == {"status": "COMPLETED", "stream": [{"output": STEP}]}
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json() == {"status": "COMPLETED", "stream": []}


async def test_only_the_holder_of_a_running_job_may_send(gateway: Gateway, worker: HandWorker) -> None:
    job = await running_job(gateway, worker)
    assert (await HandWorker(gateway.client, "worker-2").send(job, STEP)).status_code == 409
    assert (await worker.send(job | {"id": "no-such-job"}, STEP)).status_code == 404
    await gateway.post(f"{DEV}/cancel/{job['id']}")
    assert (await worker.send(job, STEP)).status_code == 409
    assert (await gateway.get(f"{DEV}/stream/{job['id']}")).json() == {"status": "CANCELLED", "stream": []}
