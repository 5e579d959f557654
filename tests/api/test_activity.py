"""The figures of the server, with a clock that stands at a known minute."""

from datetime import UTC, datetime

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

URL = "/v2/usage"
DEV_ID, SCHNELL_ID = DEV.removeprefix("/v2/"), SCHNELL.removeprefix("/v2/")


async def complete(gateway: Gateway, endpoint: str = DEV, headers: dict[str, str] | None = None) -> str:
    reply = await gateway.post(f"{endpoint}/run", {"input": {"prompt": "a lake"}}, headers=headers)
    worker = HandWorker(gateway.client, endpoint=endpoint)
    gateway.clock.advance(ms=30)
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(ms=400)
    await worker.finish(job)
    return reply.json()["id"]


@pytest.fixture(autouse=True)
def known_minute(gateway: Gateway) -> None:
    wanted_ms = round(datetime(2031, 3, 1, 12, 0, 30, tzinfo=UTC).timestamp() * 1_000)
    gateway.clock.advance(ms=wanted_ms - gateway.clock.now_ms())


async def test_the_figures_of_an_hour(gateway: Gateway, worker: HandWorker) -> None:
    done = await complete(gateway)
    cancelled = await gateway.submit()
    await gateway.post(f"{DEV}/cancel/{cancelled}")
    failed = await gateway.submit()
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "out of memory"})
    assert await worker.take() is None
    waiting = await gateway.submit(SCHNELL)
    body = (await gateway.get(f"{URL}?range=1h")).json()
    assert body["requests"] == {"completed": 1, "failed": 1, "cancelled": 1, "timedOut": 0, "retried": 0}
    assert len(body["buckets"]) == 60
    last = body["buckets"][-1]
    assert last == {"startTime": last["startTime"], "completed": 1, "failed": 1, "cancelled": 1, "timedOut": 0}
    assert last["startTime"] + body["bucketSize"] == body["endTime"]
    assert body["buckets"][0]["startTime"] == body["startTime"] == body["endTime"] - 3_600_000
    assert sum(bucket["completed"] for bucket in body["buckets"][:-1]) == 0
    assert body["executionTime"] == {"p70": 400, "p90": 400, "p98": 400}
    assert body["delayTime"] == {"p70": 30, "p90": 30, "p98": 30}
    assert (body["coldStarts"], "coldStartTime" in body) == (0, False)
    assert body["queue"] == {"inQueue": 1, "inProgress": 0}
    assert body["workers"] == dict.fromkeys(("initializing", "running", "throttled", "unhealthy"), 0) | {
        "idle": 1,
        "ready": 1,
    }
    (spend,) = body["spend"]
    assert spend | {"keyId": ""} == {
        "day": "2031-03-01",
        "keyId": "",
        "keyName": "test",
        "jobs": 1,
        "cost": 0.02097152,
    }
    shown = {job["id"]: (job["status"], job["endpointId"], job.get("error")) for job in body["jobs"]}
    assert shown == {
        done: ("COMPLETED", DEV_ID, None),
        cancelled: ("CANCELLED", DEV_ID, None),
        failed: ("FAILED", DEV_ID, "out of memory"),
        waiting: ("IN_QUEUE", SCHNELL_ID, None),
    }


async def test_the_latest_jobs_of_some_states(gateway: Gateway) -> None:
    done = await complete(gateway)
    waiting = await gateway.submit()
    for states, ids in (("COMPLETED", [done]), ("IN_QUEUE,FAILED", [waiting]), ("FAILED", [])):
        body = (await gateway.get(f"{URL}?status={states}")).json()
        assert [job["id"] for job in body["jobs"]] == ids
        # Figures are of all.
        assert (body["requests"]["completed"], body["queue"]["inQueue"]) == (1, 1)
    reply = await gateway.get(f"{URL}?status=DONE")
    assert (reply.status_code, reply.json()["error"][:17]) == (400, "status is invalid")


async def test_cold_starts_are_what_workers_said_with_a_take(gateway: Gateway, worker: HandWorker) -> None:
    headers = worker.headers
    both = f"/v2/{DEV_ID},{SCHNELL_ID}/job-take"
    for query in ("cpu&coldStart=2500", "cpu&coldStart=2500", "cpu"):
        assert (await gateway.get(f"{both}/w-1?gpu={query}", headers=headers)).status_code == 204
    await gateway.get(f"{DEV}/job-take/w-2?gpu=cpu&coldStart=900", headers=headers)
    # A worker of Runpod's SDK does not say it.
    await gateway.get(f"{DEV}/job-take/pod-1?gpu=unknown&job_in_progress=0", headers=headers)
    body = (await gateway.get(URL)).json()
    assert (body["coldStarts"], body["coldStartTime"]) == (2, {"p70": 2500, "p90": 2500, "p98": 2500})
    assert body["workers"]["ready"] == 3
    only = (await gateway.get(f"{URL}?endpoint={SCHNELL_ID}")).json()
    assert only["coldStarts"] == 1
    wrong = await gateway.get(f"{DEV}/job-take/w-3?coldStart=-1", headers=headers)
    assert (wrong.status_code, "coldStart" in wrong.json()["error"]) == (400, True)
    gateway.clock.advance(ms=29 * 86_400_000)
    await gateway.janitor.sweep()
    assert (await gateway.get(f"{URL}?range=30d")).json()["coldStarts"] == 2
    gateway.clock.advance(ms=2 * 86_400_000)
    await gateway.janitor.sweep()
    assert (await gateway.stores.activity.activity([DEV_ID], 0, gateway.clock.now_ms(), 1)).cold_starts == 0


async def test_ranges_hold_what_ended_in_them(gateway: Gateway) -> None:
    await complete(gateway)
    for hours, counts in ((2, {"1h": 0, "24h": 1}), (30, {"24h": 0, "7d": 1}), (24 * 8, {"7d": 0, "30d": 1})):
        gateway.clock.advance(ms=hours * 3_600_000)
        for wanted, count in counts.items():
            body = (await gateway.get(f"{URL}?range={wanted}")).json()
            assert (body["range"], body["requests"]["completed"]) == (wanted, count)
            assert ("executionTime" in body) == (count == 1)
    assert (await gateway.get(URL)).json()["range"] == "24h"


async def test_the_latest_jobs_are_twenty_of_all_endpoints(gateway: Gateway) -> None:
    ids = []
    for number in range(24):
        gateway.clock.advance(ms=1)
        ids.append(await gateway.submit(DEV if number % 3 else SCHNELL))
    body = (await gateway.get(URL)).json()
    assert [job["id"] for job in body["jobs"]] == ids[:3:-1]
    only = (await gateway.get(f"{URL}?endpoint={SCHNELL_ID}")).json()
    assert only["endpoints"] == [SCHNELL_ID]
    assert [job["id"] for job in only["jobs"]] == ids[::3][::-1]
    assert only["queue"] == {"inQueue": 8, "inProgress": 0}


async def test_a_key_for_some_endpoints_sees_only_these_and_its_own_spend(gateway: Gateway) -> None:
    limits = KeyLimits(endpoint_ids=frozenset({SCHNELL_ID, "not-served"}))
    _, secret = await gateway.services.accounts.create("visitor", limits=limits)
    visitor = {"Authorization": secret}
    await complete(gateway)
    await complete(gateway, SCHNELL)
    await complete(gateway, SCHNELL, visitor)
    body = (await gateway.get(URL, headers=visitor)).json()
    assert body["endpoints"] == [SCHNELL_ID]
    assert body["requests"]["completed"] == len(body["jobs"]) == 1
    assert [(spend["keyName"], spend["jobs"]) for spend in body["spend"]] == [("visitor", 1)]
    everything = (await gateway.get(URL)).json()
    assert {(spend["keyName"], spend["jobs"]) for spend in everything["spend"]} == {("test", 2), ("visitor", 1)}
    assert everything["requests"]["completed"] == 3
    assert (await gateway.get(f"{URL}?endpoint={DEV_ID}", headers=visitor)).status_code == 403


async def test_paused_receivers_are_told_to_their_owner(gateway: Gateway) -> None:
    limits = KeyLimits(endpoint_ids=frozenset({DEV_ID}))
    _, secret = await gateway.services.accounts.create("visitor", limits=limits)
    visitor = {"Authorization": secret}
    hook = {"webhook": "https://user:pass@hooks.example/flux?token=geheim"}
    for headers in [None] * 5 + [visitor] * 4:
        reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}} | hook, headers=headers)
        await gateway.post(f"{DEV}/cancel/{reply.json()['id']}", headers=headers)
    gateway.sender.answers = [503] * 9
    await gateway.send_due()
    body = (await gateway.get(URL)).json()
    (paused,) = body["webhooks"]["paused"]
    assert paused | {"keyId": ""} == {
        "receiver": "https://hooks.example:443",
        "keyId": "",
        "keyName": "test",
        "failures": 5,
        "waiting": 5,
        "since": gateway.clock.now_ms(),
        "until": gateway.clock.now_ms() + 30_000,
        "error": "HTTP 503; exactly 200 counts as received",
    }
    # Not as long as four in a row.
    assert (await gateway.get(URL, headers=visitor)).json()["webhooks"] == {"paused": []}
    gateway.clock.advance(s=30)
    gateway.sender.answers = []
    await gateway.send_due()
    assert (await gateway.get(URL)).json()["webhooks"] == {"paused": []}


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [("?range=2h", 400, "range is invalid; must be one of 1h, 24h, 7d, 30d"), ("?endpoint=x", 404, "x")],
)
async def test_wrong_questions(gateway: Gateway, query: str, code: int, words: str) -> None:
    reply = await gateway.get(URL + query)
    assert reply.status_code == code
    assert words in reply.json()["error"]


async def test_it_asks_for_a_key_and_opens_to_one_that_only_reads(gateway: Gateway) -> None:
    assert (await gateway.get(URL, headers={"Authorization": ""})).status_code == 401
    _, secret = await gateway.services.accounts.create("reader", limits=KeyLimits(is_read_only=True))
    assert (await gateway.get(URL, headers={"Authorization": secret})).status_code == 200
