"""The id of a job or batch, once it was accepted, is in every answer: in the body and in a header, errors too."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from flux_endpoint.api.app import create_app
from tests.api.conftest import DEV, FRONT, Gateway, HandWorker

pytestmark = pytest.mark.anyio

DEV_ID = DEV.removeprefix("/v2/")
BODY = {"input": {"prompt": "a lake"}}


def assert_has_id(reply: httpx.Response, made_id: str, header: str = "X-Job-Id") -> dict[str, Any]:
    assert (reply.headers[header], reply.json()["id"]) == (made_id, made_id)
    return reply.json()


async def test_every_good_answer_has_it(gateway: Gateway, worker: HandWorker) -> None:
    queued = await gateway.post(f"{DEV}/run", BODY)
    job_id = queued.json()["id"]
    assert_has_id(queued, job_id)
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no"})
    assert_has_id(await gateway.post(f"{DEV}/retry/{job_id}"), job_id)
    waited = await gateway.post(f"{DEV}/runsync?wait=1000", BODY)
    assert_has_id(waited, waited.json()["id"])
    refused = await gateway.post(f"{DEV}/run", {"input": {}})
    assert_has_id(refused, refused.json()["id"])
    batch = await gateway.post(f"{DEV}/batch", [BODY])
    batch_id = batch.json()["id"]
    assert_has_id(batch, batch_id, "X-Batch-Id")
    assert_has_id(await gateway.post(f"{DEV}/batch/{batch_id}/finalize"), batch_id, "X-Batch-Id")


async def test_a_database_that_goes_away_while_a_client_waits_leaves_it_the_id(gateway: Gateway) -> None:
    waiting = asyncio.create_task(gateway.post(f"{DEV}/runsync", BODY))
    assert await gateway.stores.claims.wait_for_jobs([DEV_ID], 60)
    ((job,), _) = await gateway.stores.jobs.recent(DEV_ID, [], 1)
    await gateway.stores.close()
    reply = await waiting
    assert reply.status_code == 503
    assert f"{job.id} was accepted: ask for it later" in assert_has_id(reply, job.id)["error"]


async def test_a_bug_after_the_acceptance_leaves_the_id_too(gateway: Gateway) -> None:
    # Whatever is written comes back as what no code expects.
    broken = "CREATE TRIGGER broken AFTER INSERT ON jobs BEGIN UPDATE jobs SET status = 'BROKEN'; END"
    await gateway.stores.database.write(lambda transaction: transaction.connection.execute(text(broken)) and None)
    transport = httpx.ASGITransport(create_app(gateway.services, FRONT), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=gateway.client.headers) as client:
        reply = await client.post(f"{DEV}/runsync?wait=1000", json=BODY)
    assert reply.status_code == 500
    query = text("SELECT id FROM jobs")
    job_id = await gateway.stores.database.read(lambda connection: connection.scalar(query))
    assert_has_id(reply, job_id)


async def test_a_database_that_goes_away_at_the_commit_leaves_the_id_that_it_may_have(
    gateway: Gateway, worker: HandWorker
) -> None:
    job_id = await gateway.submit()
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no"})
    batch_id = (await gateway.post(f"{DEV}/batch", [BODY])).json()["id"]
    await gateway.stores.close()
    reply = await gateway.post(f"{DEV}/run", BODY)
    assert reply.status_code == 503
    made = reply.json()["id"]
    assert (
        f"may have accepted {made}: ask for it later, before you send it again" in assert_has_id(reply, made)["error"]
    )
    reply = await gateway.post(f"{DEV}/retry/{job_id}")
    assert_has_id(reply, job_id)
    reply = await gateway.post(f"{DEV}/batch", [BODY])
    assert reply.json()["id"].startswith("batch_")
    # Nothing was sent that could have been kept.
    reply = await gateway.post(f"{DEV}/batch/{batch_id}/finalize")
    assert (reply.status_code, "id" in reply.json(), "X-Batch-Id" in reply.headers) == (503, False, False)


async def test_an_answer_about_what_was_not_accepted_has_no_id(gateway: Gateway) -> None:
    for reply in (
        await gateway.post(f"{DEV}/retry/none"),
        await gateway.post(f"{DEV}/run", BODY, headers={"Authorization": "wrong"}),
        await gateway.post(f"{DEV}/batch", [{}]),
        await gateway.get(f"{DEV}/status/none"),
    ):
        assert list(reply.json()) == ["error"]
        assert "X-Job-Id" not in reply.headers
