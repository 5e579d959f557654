"""`/requests`: the listing of recent jobs."""

import pytest

from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio


async def test_each_state_is_listed_with_its_figures(gateway: Gateway, worker: HandWorker) -> None:
    start_ms = gateway.clock.now_ms()
    for _ in range(4):
        await gateway.submit(width=512, height=512)
        gateway.clock.advance(ms=10)
    await gateway.submit(SCHNELL)
    await gateway.post(f"{DEV}/run", {"input": {}})
    jobs = [await worker.take() for _ in range(3)]
    gateway.clock.advance(ms=500)
    done, failed, running = [job for job in jobs if job is not None]
    await worker.finish(done)
    await worker.done(failed, {"error": "out of memory"})
    reply = await gateway.get(f"{DEV}/requests")
    body = reply.json()
    assert reply.status_code == 200
    assert (body["limit"], body["hasMore"], "nextCursor" in body) == (20, False, False)
    refused, waiting, *others = body["requests"]
    cost = 512 * 512 * 0.02 / 1_000_000
    assert refused == {
        "id": refused["id"],
        "status": "FAILED",
        "createdAt": start_ms + 40,
        "completedAt": start_ms + 40,
        "cost": 0,
        "error": "Invalid parameter: prompt is required",
    }
    assert waiting == {"id": waiting["id"], "status": "IN_QUEUE", "createdAt": start_ms + 30, "cost": cost}
    started = {"startedAt": start_ms + 40, "workerId": "worker-1"}
    ended = {"completedAt": start_ms + 540, "executionTime": 500}
    assert others == [
        {"id": running["id"], "status": "IN_PROGRESS", "createdAt": start_ms + 20, "delayTime": 20, "cost": cost}
        | started,
        {
            "id": failed["id"],
            "status": "FAILED",
            "createdAt": start_ms + 10,
            "delayTime": 30,
            "cost": 0,
            "error": "out of memory",
        }
        | started
        | ended,
        {"id": done["id"], "status": "COMPLETED", "createdAt": start_ms, "delayTime": 40, "cost": cost}
        | started
        | ended,
    ]


async def test_pages_and_filter(gateway: Gateway) -> None:
    ids = [await gateway.submit() for _ in range(5)]
    for job_id in ids[1:4]:
        await gateway.post(f"{DEV}/cancel/{job_id}")
    first = (await gateway.get(f"{DEV}/requests?status=CANCELLED,FAILED&limit=2")).json()
    assert [line["id"] for line in first["requests"]] == [ids[3], ids[2]]
    assert (first["limit"], first["hasMore"]) == (2, True)
    query = f"status=CANCELLED,FAILED&limit=2&cursor={first['nextCursor']}"
    second = (await gateway.get(f"{DEV}/requests?{query}")).json()
    assert [line["id"] for line in second["requests"]] == [ids[1]]
    assert second.keys() == {"requests", "limit", "hasMore"}


async def test_expired_jobs_stay_in_the_listing(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await gateway.submit()
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    before = (await gateway.get(f"{DEV}/requests")).json()
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    assert (await gateway.get(f"{DEV}/status/{job_id}")).status_code == 404
    assert (await gateway.get(f"{DEV}/requests")).json() == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=DONE", "IN_QUEUE, IN_PROGRESS, COMPLETED, FAILED, CANCELLED, TIMED_OUT"),
        ("status=", "status is invalid"),
        ("status=FAILED,", "status is invalid"),
        ("limit=0", "limit is invalid; must be between 1 and 100"),
        ("limit=101", "between 1 and 100"),
        ("limit=ten", "between 1 and 100"),
        ("limit=%C2%B2", "between 1 and 100"),
        ("cursor=1", "cursor is invalid"),
        ("cursor=", "cursor is invalid"),
        ("cursor=" + "9" * 20 + "-1", "cursor is invalid"),
    ],
)
async def test_a_wrong_query_is_refused(gateway: Gateway, query: str, words: str) -> None:
    reply = await gateway.get(f"{DEV}/requests?{query}")
    assert reply.status_code == 400
    assert words in reply.json()["error"]


async def test_any_cursor_of_the_right_form_is_served(gateway: Gateway) -> None:
    await gateway.submit()
    for cursor, count in (("0-0", 0), ("9" * 15 + "-" + "9" * 18, 1)):
        reply = await gateway.get(f"{DEV}/requests?cursor={cursor}")
        assert len(reply.json()["requests"]) == count


async def test_the_listing_needs_a_key_and_an_endpoint(gateway: Gateway) -> None:
    assert (await gateway.get(f"{DEV}/requests", headers={"Authorization": ""})).status_code == 401
    assert (await gateway.get("/v2/elsewhere/requests")).status_code == 404
