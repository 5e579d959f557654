"""`/stream`: what a job sends before its end, each piece once for each key, held until there is news."""

import asyncio

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.asking import taken
from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio
STEP = {"step": 1, "total": 28, "eta_ms": 2700}


async def test_text_that_utf8_cannot_hold_reaches_the_client_escaped(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    url = f"{DEV}/job-stream/{worker.id}/{job['id']}"
    sent = await gateway.client.post(url, content=rb'{"output": "a\ud800b"}', headers=worker.headers)
    assert sent.status_code == 200
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.text == '{"status":"IN_PROGRESS","stream":[{"output":"a\\ud800b"}]}'


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_news_are_handed_out_once_and_in_order(gateway: Gateway, worker: HandWorker, method: str) -> None:
    job = await taken(gateway, worker)
    for chunk in (STEP, "text", [1, None], 0):
        assert (await worker.send(job, chunk)).status_code == 200
    reply = await gateway.client.request(method, f"{DEV}/stream/{job['id']}")
    assert reply.json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": STEP}, {"output": "text"}, {"output": [1, None]}, {"output": 0}],
    }
    reply = await gateway.get(f"{DEV}/stream/{job['id']}?wait=1000")
    assert reply.json() == {"status": "IN_PROGRESS", "stream": []}


async def test_a_key_that_only_reads_takes_nothing_from_the_owner(gateway: Gateway, worker: HandWorker) -> None:
    _, secret = await gateway.services.accounts.create("onlooker", limits=KeyLimits(is_read_only=True))
    onlooker = {"Authorization": f"Bearer {secret}"}
    job = await taken(gateway, worker)
    news = {"status": "IN_PROGRESS", "stream": [{"output": STEP}]}
    await worker.send(job, STEP)
    assert (await gateway.get(f"{DEV}/stream/{job['id']}", headers=onlooker)).json() == news
    assert (await gateway.get(f"{DEV}/stream/{job['id']}")).json() == news
    await worker.finish(job)
    for headers in (onlooker, None):
        reply = await gateway.get(f"{DEV}/stream/{job['id']}", headers=headers)
        assert reply.json() == {"status": "COMPLETED", "stream": []}


async def test_a_caller_may_say_from_where_on(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    url = f"{DEV}/stream/{job['id']}"
    await worker.send(job, "one")
    first = (await gateway.get(f"{url}?position=0")).json()
    assert first == {"status": "IN_PROGRESS", "stream": [{"output": "one"}], "position": first["position"]}
    held = asyncio.create_task(gateway.get(f"{url}?position={first['position']}&wait=300000"))
    await asyncio.sleep(0)
    await worker.send(job, "two")
    second = (await held).json()
    assert second["stream"] == [{"output": "two"}]
    await worker.finish(job)
    assert (await gateway.get(f"{url}?position=0")).json() == {
        "status": "COMPLETED",
        "stream": [{"output": "one"}, {"output": "two"}],
        "position": second["position"],
    }
    end = (await gateway.get(f"{url}?position={second['position']}")).json()
    assert end == {"status": "COMPLETED", "stream": [], "position": second["position"]}
    for wrong in ("-1", "one", "1" * 13):
        reply = await gateway.get(f"{url}?position={wrong}")
        assert reply.status_code == 400
        assert reply.json() == {"error": "position is invalid; must be between 0 and 999999999999"}


async def test_a_new_attempt_sends_everything_again(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    await worker.send(job, "seen")
    assert (await gateway.get(f"{DEV}/stream/{job['id']}")).json()["stream"] == [{"output": "seen"}]
    await worker.send(job, "not seen")
    await gateway.services.workforce.own.lost(worker.id)
    reply = await gateway.get(f"{DEV}/stream/{job['id']}?wait=1000")
    assert reply.json() == {"status": "IN_QUEUE", "stream": []}
    successor = HandWorker(gateway.client, "worker-2")
    again = await successor.take()
    assert again is not None
    await successor.send(again, "seen")
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json() == {"status": "IN_PROGRESS", "stream": [{"output": "seen"}]}


async def test_a_reader_is_held_until_there_is_news(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    held = asyncio.create_task(gateway.get(f"{DEV}/stream/{job['id']}?wait=300000"))
    await asyncio.sleep(0)
    await worker.send(job, STEP)
    assert (await held).json()["stream"] == [{"output": STEP}]


async def test_the_first_terminal_reply_has_all_that_is_left(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    await worker.send(job, STEP)
    await worker.finish(job)
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json() == {"status": "COMPLETED", "stream": [{"output": STEP}]}
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json() == {"status": "COMPLETED", "stream": []}


async def test_only_the_holder_of_a_running_job_may_send(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    assert (await HandWorker(gateway.client, "worker-2").send(job, STEP)).status_code == 409
    assert (await worker.send(job | {"id": "no-such-job"}, STEP)).status_code == 404
    await gateway.post(f"{DEV}/cancel/{job['id']}")
    assert (await worker.send(job, STEP)).status_code == 409
    assert (await gateway.get(f"{DEV}/stream/{job['id']}")).json() == {"status": "CANCELLED", "stream": []}
