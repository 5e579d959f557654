"""Runpod's official Python client, unmodified, against a running server: only the base URL is changed."""

import asyncio
import warnings
from collections.abc import Iterator
from types import ModuleType

import aiohttp
import pytest

from tests.servers import DEV, Server

LAKE = {"input": {"prompt": "a lake", "width": 256, "height": 256}}


@pytest.fixture
def runpod(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own
        import runpod
    monkeypatch.setattr(runpod, "endpoint_url_base", f"{server.url}/v2")
    monkeypatch.setattr(runpod, "api_key", (server.data_dir / "api-key").read_text().strip())
    yield runpod


def test_run_sync_returns_the_output(runpod: ModuleType) -> None:
    output = runpod.Endpoint(DEV).run_sync(LAKE, timeout=60)
    assert output["image_url"] == output["result"]
    assert output["cost"] == 0.00131072


def test_run_then_poll(runpod: ModuleType) -> None:
    job = runpod.Endpoint(DEV).run(LAKE)
    assert job.output(timeout=60)["image_url"].endswith(".jpg")
    assert job.status() == "COMPLETED"


def test_cancel_and_health(runpod: ModuleType) -> None:
    endpoint = runpod.Endpoint(DEV)
    job = endpoint.run({"input": {"prompt": "a lake", "num_inference_steps": 50}})
    assert job.cancel()["status"] in ("CANCELLED", "COMPLETED")
    health = endpoint.health()
    assert set(health["workers"]) == {"idle", "initializing", "ready", "running", "throttled", "unhealthy"}


def test_a_wrong_key_is_reported_as_such(runpod: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod, "api_key", "wrong")
    with pytest.raises(RuntimeError, match="401"):
        runpod.Endpoint(DEV).run(LAKE)


def test_asyncio_client_runs_a_job_and_finds_the_reason_of_a_refusal(runpod: ModuleType) -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            endpoint = runpod.AsyncioEndpoint(DEV, session)
            job = await endpoint.run(LAKE["input"])
            output = await job.output(timeout=60)
            assert output["image_url"].endswith(".jpg")
            # This client takes the body of a 400 for an accepted job: its id must lead to the reason.
            refused = await endpoint.run({"prompt": "a lake", "width": 100})
            assert await refused.status() == "FAILED"

    asyncio.run(scenario())
