"""What a key with limits may do over HTTP."""

import asyncio
from decimal import Decimal

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.asking import headers_of
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

BODY = {"input": {"prompt": "a lake", "width": 1024, "height": 1024}}
COST_USD = Decimal("0.02097152")


async def test_a_read_only_key_looks_and_changes_nothing(gateway: Gateway) -> None:
    headers = await headers_of(gateway, is_read_only=True)
    job_id = await gateway.submit()
    for path in (f"status/{job_id}", f"stream/{job_id}?wait=1000", "health"):
        assert (await gateway.get(f"{DEV}/{path}", headers=headers)).status_code == 200
    for path in ("run", "runsync", f"cancel/{job_id}", f"retry/{job_id}", "purge-queue", f"status/{job_id}?ttl=5000"):
        reply = await gateway.post(f"{DEV}/{path}", BODY, headers=headers)
        name = path.partition("/")[0]
        assert reply.status_code == 403, path
        assert reply.json()["error"].startswith(f"API key 'visitor' is read only: it may not use /{name}")
    assert (await gateway.get(f"{DEV}/status/{job_id}")).json()["status"] == "IN_QUEUE"
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 1


async def test_a_key_for_one_endpoint_does_not_open_another(gateway: Gateway) -> None:
    headers = await headers_of(gateway, endpoint_ids=frozenset({"black-forest-labs-flux-1-schnell"}))
    assert (await gateway.post(f"{SCHNELL}/run", BODY, headers=headers)).status_code == 200
    for operation in ("run", "health"):
        method = gateway.post if operation == "run" else gateway.get
        reply = await method(f"{DEV}/{operation}", headers=headers)
        assert reply.status_code == 403
        assert "only black-forest-labs-flux-1-schnell" in reply.json()["error"]


async def test_beyond_the_budget_is_402_and_leaves_no_job(gateway: Gateway, worker: HandWorker) -> None:
    headers = await headers_of(gateway, usd_per_month=2 * COST_USD)
    for _ in range(2):
        assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 200
    for operation in ("run", "runsync"):
        reply = await gateway.post(f"{DEV}/{operation}", BODY, headers=headers)
        assert reply.status_code == 402
        assert list(reply.json()) == ["error"]
        assert "over budget: API key 'visitor' may spend 0.04194304 USD" in reply.json()["error"]
        assert "this job costs 0.02097152 USD" in reply.json()["error"]
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 2
    # Wrong input is told as such, whatever is left.
    assert (await gateway.post(f"{DEV}/run", {"input": {}}, headers=headers)).status_code == 400
    for _ in range(2):
        job = await worker.take()
        assert job is not None
        await worker.finish(job)
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 402
    gateway.clock.advance(days=31)
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 200


async def test_requests_at_once_share_one_budget(gateway: Gateway) -> None:
    headers = await headers_of(gateway, usd_per_month=5 * COST_USD)
    replies = await asyncio.gather(*(gateway.post(f"{DEV}/run", BODY, headers=headers) for _ in range(12)))
    assert sorted(reply.status_code for reply in replies) == [200] * 5 + [402] * 7


async def test_a_repeated_request_is_not_paid_twice(gateway: Gateway) -> None:
    headers = await headers_of(gateway, usd_per_month=COST_USD) | {"Idempotency-Key": "one"}
    first = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    again = await gateway.post(f"{DEV}/run", BODY, headers=headers)
    assert again.json() == first.json()


async def test_jobs_a_minute_are_counted_over_all_endpoints_and_looking_is_free(gateway: Gateway) -> None:
    headers = await headers_of(gateway, requests_per_minute=2)
    job_id = (await gateway.post(f"{DEV}/run", BODY, headers=headers)).json()["id"]
    gateway.clock.advance(s=20)
    assert (await gateway.post(f"{SCHNELL}/run", BODY, headers=headers)).status_code == 200
    reply = await gateway.post(f"{DEV}/runsync", BODY, headers=headers)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "40")
    assert reply.json() == {"error": "rate limit: at most 2 jobs in 60 s with one API key; try again in 40 s"}
    for _ in range(5):
        assert (await gateway.get(f"{DEV}/status/{job_id}", headers=headers)).status_code == 200
    gateway.clock.advance(s=40)
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 200
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 429


async def test_a_changed_limit_holds_at_once_on_this_gateway(gateway: Gateway) -> None:
    accounts = gateway.services.accounts
    key, secret = await accounts.create("visitor", limits=KeyLimits(is_read_only=True))
    headers = {"Authorization": secret}
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 403
    await accounts.limit(key.id, lambda limits: KeyLimits(usd_per_month=COST_USD))
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 200
    assert (await gateway.post(f"{DEV}/run", BODY, headers=headers)).status_code == 402
    assert await accounts.spent_this_month() == {}
