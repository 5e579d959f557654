"""What is answered to a request that cannot be served: each answer is a file in `golden/`."""

from decimal import Decimal

import pytest

from flux_endpoint.service.limits import QueueCap
from tests.api.asking import headers_of
from tests.api.conftest import DEV, Gateway
from tests.api.golden_files import GoldenFiles

pytestmark = pytest.mark.anyio

ASKED = {"input": {"prompt": "a lake", "seed": 42}}
NO_JOB = "eaebd6e7-0000-4000-8000-000000000000-x"


async def test_400(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("400-no-json", await noon.client.post(f"{DEV}/run", content=b"{"))
    golden.check("400-no-object", await noon.post(f"{DEV}/run", []))
    golden.check("400-no-input", await noon.post(f"{DEV}/run", {"prompt": "a lake"}))
    too_much = b'{"input": {"prompt": "' + b"a" * 10 * 2**20 + b'"}}'
    golden.check("400-too-large", await noon.client.post(f"{DEV}/run", content=too_much))
    golden.check("400-wrong-ttl", await noon.get(f"{DEV}/status/{NO_JOB}?ttl=soon"))


async def test_401(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("401-no-key", await noon.get(f"{DEV}/health", headers={"Authorization": ""}))
    golden.check("401-wrong-key", await noon.get(f"{DEV}/health", headers={"Authorization": "Bearer fxe_x"}))


async def test_402(noon: Gateway, golden: GoldenFiles) -> None:
    headers = await headers_of(noon, usd_per_month=Decimal("0.01"))
    golden.check("402-over-budget", await noon.post(f"{DEV}/run", ASKED, headers=headers))


async def test_403_read_only(noon: Gateway, golden: GoldenFiles) -> None:
    headers = await headers_of(noon, is_read_only=True)
    golden.check("403-read-only", await noon.post(f"{DEV}/run", ASKED, headers=headers))


async def test_403_another_endpoint(noon: Gateway, golden: GoldenFiles) -> None:
    headers = await headers_of(noon, endpoint_ids=frozenset({"black-forest-labs-flux-1-schnell"}))
    golden.check("403-another-endpoint", await noon.get(f"{DEV}/health", headers=headers))


async def test_404(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("404-no-job", await noon.get(f"{DEV}/status/{NO_JOB}"))
    golden.check("404-no-job-to-cancel", await noon.post(f"{DEV}/cancel/{NO_JOB}"))
    golden.check("404-no-endpoint", await noon.post("/v2/elsewhere/run", ASKED))
    golden.check("404-no-path", await noon.get("/v3/elsewhere"))


async def test_405(noon: Gateway, golden: GoldenFiles) -> None:
    golden.check("405-run", await noon.get(f"{DEV}/run"))
    golden.check("405-status", await noon.client.delete(f"{DEV}/status/{NO_JOB}"))


async def test_409(noon: Gateway, golden: GoldenFiles) -> None:
    headers = {"Idempotency-Key": "order-1"}
    await noon.post(f"{DEV}/run", ASKED, headers=headers)
    golden.check("409-other-body", await noon.post(f"{DEV}/run", {"input": {"prompt": "a hill"}}, headers=headers))


async def test_429_rate(noon: Gateway, golden: GoldenFiles) -> None:
    for _ in range(2):
        await noon.post(f"{DEV}/purge-queue")
    golden.check("429-rate", await noon.post(f"{DEV}/purge-queue"))


async def test_429_queue(noon: Gateway, golden: GoldenFiles) -> None:
    endpoints = noon.services.endpoints
    endpoints.cap = QueueCap(noon.stores.activity, noon.clock, 1)
    await noon.submit()
    golden.check("429-queue", await noon.post(f"{DEV}/runsync", ASKED))
