"""What batches, listings, estimates, bills and the catalogue answer: each answer is a file in `golden/`."""

from typing import Any

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker
from tests.api.golden_files import GoldenFiles

pytestmark = pytest.mark.anyio

BATCH = f"{DEV}/batch"
BILLING = "/v2/billing/endpoints"


def body(seed: int) -> dict[str, Any]:
    return {"input": {"prompt": "a lake", "width": 512, "height": 512, "seed": seed}}


async def take(worker: HandWorker, gateway: Gateway) -> dict[str, Any]:
    gateway.clock.advance(ms=70)
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(ms=500)
    return job


async def complete(gateway: Gateway, endpoint: str) -> None:
    worker = HandWorker(gateway.client, endpoint=endpoint)
    await gateway.submit(endpoint, seed=42)
    await worker.finish(await take(worker, gateway))


async def test_a_draft(noon: Gateway, golden: GoldenFiles) -> None:
    created = await noon.post(BATCH, [body(1), body(2)])
    golden.check("batch-create", created)
    batch_id = created.json()["id"]
    golden.check("batch-get-draft", await noon.get(f"{BATCH}/{batch_id}"))
    golden.check("batch-add", await noon.post(f"{BATCH}/{batch_id}/requests", {"requests": [body(3)]}))
    change = {"name": "autumn catalogue", "webhook": "https://93.184.216.34/"}
    golden.check("batch-change", await noon.client.put(f"{BATCH}/{batch_id}", json=change))
    requests = await noon.get(f"{BATCH}/{batch_id}/requests")
    golden.check("batch-requests-draft", requests)
    first = requests.json()["requests"][0]["id"]
    golden.check("batch-remove", await noon.client.delete(f"{BATCH}/{batch_id}/requests/{first}"))
    noon.clock.advance(s=1)
    await noon.post(BATCH, [])
    golden.check("batch-list", await noon.get(BATCH))
    golden.check("batch-list-page", await noon.get(f"{BATCH}?offset=0&limit=1"))
    golden.check("batch-cancel-draft", await noon.post(f"{BATCH}/{batch_id}/cancel", {}))
    golden.check("batch-finalize-cancelled", await noon.post(f"{BATCH}/{batch_id}/finalize"))


async def test_a_batch_that_runs(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    batch_id = (await noon.post(BATCH, [body(seed) for seed in range(4)])).json()["id"]
    golden.check("batch-finalize", await noon.post(f"{BATCH}/{batch_id}/finalize"))
    await worker.finish(await take(worker, noon))
    await worker.done(await take(worker, noon), {"error": "the device ran out of memory"})
    await take(worker, noon)
    golden.check("batch-get-finalized", await noon.get(f"{BATCH}/{batch_id}"))
    golden.check("batch-requests-finalized", await noon.get(f"{BATCH}/{batch_id}/requests"))
    golden.check("batch-requests-page", await noon.get(f"{BATCH}/{batch_id}/requests?offset=1&limit=2"))
    golden.check("batch-cancel", await noon.post(f"{BATCH}/{batch_id}/cancel"))


async def test_batch_errors(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("batch-create-wrong", await noon.post(BATCH, [body(1), {"input": {}}]))
    golden.check("batch-unknown", await noon.get(f"{BATCH}/batch_x"))
    empty = (await noon.post(BATCH, [])).json()["id"]
    golden.check("batch-finalize-empty", await noon.post(f"{BATCH}/{empty}/finalize"))


async def test_requests(noon: Gateway, worker: HandWorker, golden: GoldenFiles) -> None:
    golden.check("requests-none", await noon.get(f"{DEV}/requests"))
    for _ in range(5):
        await noon.submit(seed=42)
    await noon.post(f"{DEV}/run", {"input": {}})
    await worker.finish(await take(worker, noon))
    await worker.done(await take(worker, noon), {"error": "the device ran out of memory"})
    cancelled = await take(worker, noon)
    await noon.post(f"{DEV}/cancel/{cancelled['id']}")
    await take(worker, noon)
    golden.check("requests", await noon.get(f"{DEV}/requests"))
    golden.check("requests-page", await noon.get(f"{DEV}/requests?status=COMPLETED,FAILED&limit=2"))
    golden.check("requests-wrong-status", await noon.get(f"{DEV}/requests?status=DONE"))


async def test_estimate(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("estimate-without-past", await noon.post(f"{DEV}/estimate", body(42)))
    await complete(noon, DEV)
    await noon.submit()
    golden.check("estimate", await noon.post(f"{DEV}/estimate", body(42)))
    golden.check("estimate-wrong", await noon.post(f"{DEV}/estimate", {"input": {"prompt": ""}}))


async def test_billing(noon: Gateway, golden: GoldenFiles) -> None:
    await complete(noon, DEV)
    await complete(noon, SCHNELL)
    noon.clock.advance(days=3)
    await complete(noon, DEV)
    golden.check("billing-endpoints", await noon.get(BILLING))
    golden.check("billing-hours", await noon.get(f"{BILLING}?bucketSize=hour&lastN=100"))
    golden.check("billing", await noon.get("/v2/billing?bucketSize=month&lastN=1"))
    golden.check("billing-422", await noon.get(f"{BILLING}?bucketSize=x&lastN=0"))
    golden.check("billing-401", await noon.get(BILLING, headers={"Authorization": ""}))
    golden.check("billing-405", await noon.post(BILLING))


async def test_billing_of_a_read_only_key(noon: Gateway, golden: GoldenFiles) -> None:
    _, secret = await noon.services.accounts.create("dashboard", limits=KeyLimits(is_read_only=True))
    golden.check("billing-none", await noon.get(BILLING, headers={"Authorization": secret}))


async def test_the_catalogue(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("endpoints", await noon.get("/v2/endpoints", headers={"Authorization": ""}))
