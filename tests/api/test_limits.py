"""Limits on how much may be asked in a time, as a client sees them."""

import asyncio

import pytest

from flux_endpoint.core.account import Operation
from flux_endpoint.core.limits import RateRule
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.service.limits import RateLimiter
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio


def set_rules(gateway: Gateway, rules: dict[Operation, RateRule]) -> Accounts:
    accounts = gateway.services.accounts
    accounts._limiter = RateLimiter(gateway.clock, rules)
    return accounts


async def test_a_third_purge_within_ten_seconds_is_429_with_retry_after(gateway: Gateway) -> None:
    for _ in range(2):
        assert (await gateway.post(f"{DEV}/purge-queue")).status_code == 200
    gateway.clock.advance(s=2.5)
    reply = await gateway.post(f"{DEV}/purge-queue")
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "8"
    assert reply.json() == {
        "error": "rate limit: at most 2 /purge-queue requests in 10 s with one API key; try again in 8 s"
    }
    assert (await gateway.post(f"{SCHNELL}/purge-queue")).status_code == 200
    gateway.clock.advance(s=7.5)
    assert (await gateway.post(f"{DEV}/purge-queue")).status_code == 200


async def test_a_refused_request_leaves_no_job(gateway: Gateway) -> None:
    set_rules(gateway, {Operation.RUN: RateRule(1)})
    await gateway.submit()
    assert (await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}})).status_code == 429
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 1


async def test_all_ways_to_look_at_a_job_share_one_limit(gateway: Gateway) -> None:
    set_rules(gateway, {Operation.STATUS: RateRule(3)})
    job_id = await gateway.submit()
    await gateway.post(f"{DEV}/cancel/{job_id}")
    for operation in ("status", "status-sync", "stream"):
        assert (await gateway.get(f"{DEV}/{operation}/{job_id}")).status_code == 200
    assert (await gateway.post(f"{DEV}/status/{job_id}")).status_code == 429


async def test_a_held_request_counts_as_open_until_it_is_answered(gateway: Gateway, worker: HandWorker) -> None:
    set_rules(gateway, {Operation.RUNSYNC: RateRule(None, 1)})
    body = {"input": {"prompt": "a lake"}}
    held = asyncio.create_task(gateway.post(f"{DEV}/runsync", body))
    job = await worker.take_next()
    assert (await gateway.post(f"{DEV}/runsync", body)).status_code == 429
    await worker.finish(job)
    assert (await held).status_code == 200
    # Wrong input frees its place too.
    assert (await gateway.post(f"{DEV}/runsync", {})).status_code == 400
    assert (await gateway.post(f"{DEV}/runsync", {})).status_code == 400


async def test_a_client_that_leaves_frees_its_place(gateway: Gateway) -> None:
    set_rules(gateway, {Operation.STATUS: RateRule(None, 1)})
    job_id = await gateway.submit()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await gateway.get(f"{DEV}/status-sync/{job_id}")
    assert (await gateway.get(f"{DEV}/status/{job_id}")).status_code == 200


async def test_a_limit_is_not_told_to_strangers(gateway: Gateway) -> None:
    set_rules(gateway, {Operation.HEALTH: RateRule(1)})
    await gateway.get(f"{DEV}/health")
    headers = {"Authorization": "wrong"}
    assert (await gateway.get(f"{DEV}/health", headers=headers)).status_code == 401
