"""`/batch`: the batch API of contract section 1.8."""

from typing import Any

import pytest

from tests.api.conftest import API_KEY, DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio
BATCH = f"{DEV}/batch"
COST = 512 * 512 * 0.02 / 1_000_000


def body(**fields: Any) -> dict[str, Any]:
    return {"input": {"prompt": "a lake", "width": 512, "height": 512} | fields}


async def create(gateway: Gateway, *bodies: Any) -> str:
    reply = await gateway.post(BATCH, list(bodies))
    assert reply.status_code == 200, reply.text
    batch_id = reply.json()["id"]
    assert reply.json() == {"id": batch_id, "status": "DRAFT"}
    assert batch_id.startswith("batch_")
    return batch_id


async def requests_of(gateway: Gateway, batch_id: str, query: str = "") -> dict[str, Any]:
    reply = await gateway.get(f"{BATCH}/{batch_id}/requests{query}")
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_batch_from_draft_to_results(gateway: Gateway, worker: HandWorker) -> None:
    start_ms = gateway.clock.now_ms()
    batch_id = await create(gateway, body(seed=1), body(seed=2))
    added = (await gateway.post(f"{BATCH}/{batch_id}/requests", {"requests": [body(seed=3)]})).json()
    (third,) = added.pop("requestIds")
    draft = {
        "id": batch_id,
        "endpointId": "black-forest-labs-flux-1-dev",
        "status": "DRAFT",
        "requestTotal": 3,
        "requestInProgress": 0,
        "requestCompleted": 0,
        "requestFailed": 0,
        "createdAt": start_ms,
    }
    assert added == draft
    assert (await gateway.get(f"{BATCH}/{batch_id}")).json() == draft
    page = await requests_of(gateway, batch_id)
    ids = [line["id"] for line in page["requests"]]
    assert ids[2] == third
    assert all(request_id.startswith("req_") for request_id in ids)
    assert page == {
        "requests": [{"id": request_id, "status": "DRAFT"} for request_id in ids],
        "total": 3,
        "offset": 0,
        "limit": 20,
        "hasMore": False,
    }
    assert await worker.take() is None
    gateway.clock.advance(ms=50)
    finalized = await gateway.post(f"{BATCH}/{batch_id}/finalize")
    assert finalized.json() == draft | {"status": "FINALIZED"}
    first, second = await worker.take_next(), await worker.take_next()
    assert (first["id"], first["batchId"], first["input"]["seed"]) == (ids[0], batch_id, 1)
    gateway.clock.advance(ms=500)
    await worker.finish(first)
    await worker.done(second, {"error": "out of memory"})
    await worker.take()
    assert (await gateway.get(f"{BATCH}/{batch_id}")).json() == draft | {
        "status": "FINALIZED",
        "requestInProgress": 1,
        "requestCompleted": 1,
        "requestFailed": 1,
    }
    times = {"startedAt": start_ms + 50, "completedAt": start_ms + 550}
    whole = (await gateway.get(f"{DEV}/status/{ids[0]}")).json()
    assert whole["output"]["cost"] == COST
    page = await requests_of(gateway, batch_id, "?offset=0&limit=2")
    assert page["requests"] == [
        {"id": ids[1], "status": "FAILED", "error": "out of memory"} | times,
        {"id": ids[0], "status": "COMPLETED", "output": whole["output"]} | times,
    ]
    assert (page["total"], page["limit"], page["hasMore"]) == (3, 2, True)
    page = await requests_of(gateway, batch_id, "?offset=2")
    assert page["requests"] == [{"id": ids[2], "status": "IN_PROGRESS", "startedAt": start_ms + 550}]
    assert (page["offset"], page["hasMore"]) == (2, False)
    listed = (await gateway.get(f"{DEV}/requests")).json()["requests"]
    assert {line["batchId"] for line in listed} == {batch_id}
    assert [entry.job_id for entry in await gateway.stores.accounts.entries()] == [ids[0]]


async def test_results_are_kept_for_a_day(gateway: Gateway, worker: HandWorker) -> None:
    batch_id = await create(gateway, body())
    await gateway.post(f"{BATCH}/{batch_id}/finalize")
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    gateway.clock.advance(s=86_399)
    assert "output" in (await requests_of(gateway, batch_id))["requests"][0]
    gateway.clock.advance(s=1)
    (line,) = (await requests_of(gateway, batch_id))["requests"]
    assert line.keys() == {"id", "status", "startedAt", "completedAt"}
    assert (await gateway.get(f"{DEV}/status/{job['id']}")).status_code == 404


async def test_a_batch_is_named_and_given_a_webhook(gateway: Gateway) -> None:
    batch_id = await create(gateway, body())
    reply = await gateway.client.put(
        f"{BATCH}/{batch_id}", json={"name": "autumn", "webhook": "https://93.184.216.34/"}
    )
    assert (reply.json()["name"], reply.json()["webhook"]) == ("autumn", "https://93.184.216.34/")
    reply = await gateway.client.put(f"{BATCH}/{batch_id}", json={"webhook": None, "unknown": 1})
    assert reply.json()["name"] == "autumn"
    assert "webhook" not in reply.json()
    listed = (await gateway.get(BATCH)).json()
    assert listed == {"batches": [reply.json()], "total": 1, "offset": 0, "limit": 20, "hasMore": False}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "the body must be a JSON object"),
        ({"name": 1}, "name must be a string of at most 200"),
        ({"name": "x" * 201}, "name must be"),
        ({"name": "a\nb"}, "name must be"),
        ({"webhook": "ftp://example.com"}, "webhook must be"),
        ({"webhook": "http://127.0.0.1/"}, "webhook"),
    ],
)
async def test_wrong_attributes_are_refused(gateway: Gateway, changes: Any, words: str) -> None:
    batch_id = await create(gateway)
    reply = await gateway.client.put(f"{BATCH}/{batch_id}", json=changes)
    assert reply.status_code == 400
    assert words in reply.json()["error"]


async def test_a_request_is_taken_out_and_a_draft_cancelled(gateway: Gateway) -> None:
    batch_id = await create(gateway, body(), body())
    (first, second) = [line["id"] for line in (await requests_of(gateway, batch_id))["requests"]]
    reply = await gateway.client.delete(f"{BATCH}/{batch_id}/requests/{first}")
    assert (reply.status_code, reply.json()) == (200, {"id": first, "status": "DELETED"})
    assert (await gateway.client.delete(f"{BATCH}/{batch_id}/requests/{first}")).status_code == 404
    assert [line["id"] for line in (await requests_of(gateway, batch_id))["requests"]] == [second]
    reply = await gateway.post(f"{BATCH}/{batch_id}/cancel", {})
    assert (reply.json()["status"], reply.json()["requestTotal"]) == ("CANCELLED", 0)
    for reply in (
        await gateway.post(f"{BATCH}/{batch_id}/finalize"),
        await gateway.post(f"{BATCH}/{batch_id}/requests", {"requests": []}),
        await gateway.client.put(f"{BATCH}/{batch_id}", json={"name": "x"}),
        await gateway.client.delete(f"{BATCH}/{batch_id}/requests/{second}"),
    ):
        assert reply.status_code == 409
        assert "only a DRAFT can be" in reply.json()["error"]


async def test_cancelling_stops_what_runs(gateway: Gateway, worker: HandWorker) -> None:
    batch_id = await create(gateway, body(), body())
    await gateway.post(f"{BATCH}/{batch_id}/finalize")
    job = await worker.take()
    assert job is not None
    reply = await gateway.post(f"{BATCH}/{batch_id}/cancel")
    assert (reply.json()["status"], reply.json()["requestFailed"]) == ("CANCELLED", 2)
    assert (await worker.done(job, {"error": "late"})).status_code == 409
    page = await requests_of(gateway, batch_id)
    assert [line["status"] for line in page["requests"]] == ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ({}, "the body must be a JSON array"),
        ([body(), {"input": {}}], "request 1 (counted from 0): Invalid parameter: prompt is required"),
        ([body(width=300)], "request 0 (counted from 0): Invalid parameter: width must be divisible by 64"),
        ([body(), body(), 3], "request 2 (counted from 0): Invalid request: the body must be a JSON object"),
        ([body() | {"policy": {"ttl": 1}}], "request 0 (counted from 0): Invalid parameter: policy.ttl must be"),
        ([body()] * 5_001, "at most 5000 requests, not 5001"),
    ],
)
async def test_a_wrong_request_is_refused_with_its_index_and_nothing_is_kept(
    gateway: Gateway, bodies: Any, words: str
) -> None:
    reply = await gateway.post(BATCH, bodies)
    assert reply.status_code == 400
    assert words in reply.json()["error"]
    assert (await gateway.get(BATCH)).json()["total"] == 0
    batch_id = await create(gateway)
    reply = await gateway.post(f"{BATCH}/{batch_id}/requests", {"requests": bodies})
    assert reply.status_code == 400
    assert words.replace("the body must be a JSON array", "requests must be a JSON array") in reply.json()["error"]
    assert (await gateway.get(f"{BATCH}/{batch_id}")).json()["requestTotal"] == 0


async def test_other_wrong_calls(gateway: Gateway) -> None:
    batch_id = await create(gateway)
    for path in (BATCH, f"{BATCH}/{batch_id}/requests"):
        reply = await gateway.client.post(path, content=b"[" + b" " * (10 * 2**20) + b"]")
        assert (reply.status_code, "10MiB" in reply.json()["error"]) == (400, True)
        assert (await gateway.client.post(path, content=b"{")).status_code == 400
        for query in ("offset=-1", "offset=x", "limit=0", "limit=101"):
            assert (await gateway.get(f"{path}?{query}")).status_code == 400
    reply = await gateway.post(f"{BATCH}/{batch_id}/requests", [body()])
    assert "with the key 'requests'" in reply.json()["error"]
    reply = await gateway.post(f"{BATCH}/{batch_id}/finalize")
    assert (reply.status_code, "has no requests" in reply.json()["error"]) == (409, True)
    for call in (
        gateway.get(f"{SCHNELL}/batch/{batch_id}"),
        gateway.get(f"{BATCH}/batch_x/requests"),
        gateway.post(f"{BATCH}/batch_x/requests", {"requests": []}),
        gateway.post(f"{BATCH}/batch_x/finalize"),
        gateway.get("/v2/elsewhere/batch"),
    ):
        assert (await call).status_code == 404
    for _ in range(9):
        await create(gateway)
    reply = await gateway.post(BATCH, [])
    assert (reply.status_code, "10 active batches" in reply.json()["error"]) == (409, True)


async def test_every_route_asks_for_a_key(gateway: Gateway) -> None:
    batch_id = await create(gateway, body())
    calls = [("POST", ""), ("GET", "")]
    calls += [("GET", f"/{batch_id}"), ("PUT", f"/{batch_id}")]
    calls += [("POST", f"/{batch_id}/requests"), ("GET", f"/{batch_id}/requests")]
    calls += [("DELETE", f"/{batch_id}/requests/x"), ("POST", f"/{batch_id}/finalize"), ("POST", f"/{batch_id}/cancel")]
    for method, path in calls:
        reply = await gateway.client.request(method, BATCH + path, headers={"Authorization": f"{API_KEY}x"})
        assert reply.status_code == 401
    assert (await gateway.get(f"{BATCH}/{batch_id}")).json()["status"] == "DRAFT"
