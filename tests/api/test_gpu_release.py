"""Asking workers to give their memory back, and what they say of it."""

import asyncio

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, Gateway, HandWorker, ThirdPartyWorker

pytestmark = pytest.mark.anyio

RELEASE = "/v2/gpu/release"


async def stops(gateway: Gateway, worker: HandWorker, query: str = "?unload=1") -> object:
    reply = await gateway.client.get(f"{worker.endpoint}/job-stop/{worker.id}{query}", headers=worker.headers)
    return reply.json() if reply.status_code == 200 else reply.status_code


async def test_a_worker_is_told_once_on_the_channel_of_stops(gateway: Gateway, worker: HandWorker) -> None:
    assert (await gateway.post(RELEASE)).json() == {"workers": []}
    assert await stops(gateway, worker) == 204
    held = asyncio.create_task(stops(gateway, worker))
    await asyncio.sleep(0)
    assert (await gateway.post(RELEASE)).json() == {"workers": [worker.id]}
    assert await held == {"jobsToStop": [], "unload": True}
    assert await stops(gateway, worker) == 204


async def test_it_is_told_between_two_calls_and_with_stops_too(gateway: Gateway, worker: HandWorker) -> None:
    await stops(gateway, worker)
    job_id = await gateway.submit()
    await worker.take()
    await gateway.post(RELEASE)
    await gateway.post(f"{DEV}/cancel/{job_id}")
    told = [await stops(gateway, worker) for _ in range(3)]
    assert {"jobsToStop": [job_id]} in told or {"jobsToStop": [job_id], "unload": True} in told
    assert sum(isinstance(body, dict) and body.get("unload") is True for body in told) == 1
    assert told[-1] == 204


async def test_workers_of_other_makes_are_not_asked(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    await third_party.get("job-stop")
    assert (await gateway.post(RELEASE)).json() == {"workers": []}
    assert (await third_party.get("job-stop")).status_code == 204


async def test_a_key_for_some_endpoints_asks_who_serves_these_alone(gateway: Gateway, worker: HandWorker) -> None:
    await stops(gateway, worker)
    for endpoint, asked in ((DEV.rpartition("/")[2], [worker.id]), ("echo", [])):
        limits = KeyLimits(endpoint_ids=frozenset({endpoint}))
        _, secret = await gateway.services.accounts.create(endpoint, limits=limits)
        reply = await gateway.post(RELEASE, headers={"Authorization": secret})
        assert reply.json() == {"workers": asked}


async def test_workers_say_how_they_keep_their_models(gateway: Gateway, worker: HandWorker) -> None:
    async def details() -> object:
        return (await gateway.get(f"{DEV}/health?details=true")).json()["details"]

    await worker.take()
    for memory in ("full (it takes 1.2 GiB)", "unloaded"):
        await gateway.client.get(f"{DEV}/ping/{worker.id}", params={"memory": memory}, headers=worker.headers)
        assert await details() == [{"id": worker.id, "state": "idle", "memory": memory}]
    wrong = await gateway.client.get(f"{DEV}/ping/{worker.id}", params={"memory": "Kär"}, headers=worker.headers)
    assert wrong.status_code == 400
