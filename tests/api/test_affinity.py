"""Jobs with LoRAs go to the worker that has them, and no worker is idle for long because of that."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flux_endpoint.core.affinity import LEFT_MS
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.api.asking import until_held
from tests.api.conftest import DEV, FakeSender, Gateway, HandWorker, open_gateway
from tests.unit.test_lora_shelf import PAIR, write

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Holds a question until there is a job."""
    for name in ("film", "oil"):
        write(tmp_path / "loras" / f"{name}.safetensors", PAIR, {}, made=name)
    endpoints = {FLUX_DEV.endpoint_id: FluxEndpoint(FLUX_DEV, shelf=FolderShelf((tmp_path / "loras",)))}
    async with open_gateway(tmp_path, FakeSender(), endpoints, hold_s=30) as opened:
        yield opened


@pytest.fixture
def workers(gateway: Gateway) -> list[HandWorker]:
    return [HandWorker(gateway.client, name) for name in ("worker-1", "worker-2")]


async def submit(gateway: Gateway, *names: str) -> str:
    return await gateway.submit(loras=[{"path": name} for name in names])


async def draw(worker: HandWorker) -> str:
    """The next job of a worker that is free, from its question to its picture."""
    job = await worker.take(job_in_progress="0")
    assert job is not None
    await worker.finish(job)
    return str(job["id"])


async def asking(gateway: Gateway, worker: HandWorker) -> asyncio.Task[str]:
    """A free worker, whose question is held by now."""
    task = asyncio.create_task(draw(worker))
    await until_held(gateway.services.workforce, worker.id)
    return task


async def test_a_worker_draws_with_the_loras_that_it_has_before_it_reads_others(gateway, workers):
    first, second = workers
    film = await submit(gateway, "film")
    assert await draw(first) == film
    plain, oil, both, film = [await submit(gateway, *names) for names in ((), ("oil",), ("oil", "film"), ("film",))]
    assert await draw(first) == film
    assert [await draw(second), await draw(second)] == [plain, oil]
    assert await draw(first) == both


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_idle_worker_that_has_the_loras_gets_the_job_and_others_get_the_rest(gateway, workers, order):
    film = await submit(gateway, "film")
    assert await draw(workers[0]) == film
    tasks = {number: await asking(gateway, workers[number]) for number in order}
    film = await submit(gateway, "film")
    assert await asyncio.wait_for(tasks[0], 30) == film
    oil = await submit(gateway, "oil")
    assert await asyncio.wait_for(tasks[1], 30) == oil


async def test_a_job_is_left_for_no_more_than_a_moment(gateway, workers):
    first, second = workers
    film = await submit(gateway, "film")
    assert await draw(first) == film
    film = await submit(gateway, "film")
    # It seems to wait and takes nothing, as one does whose machine was lost.
    registry: Any = gateway.services.workforce._registry
    with registry.holding(registry.get(first.id), is_take=True, is_free=True):
        task = await asking(gateway, second)
        gateway.clock.advance(ms=LEFT_MS + 1)
        assert await asyncio.wait_for(task, 30) == film


async def test_a_worker_that_gave_its_memory_back_has_none(gateway, worker):
    film = await submit(gateway, "film")
    assert await draw(worker) == film
    url = f"{DEV}/job-stop/{worker.id}?unload=1"
    stops = asyncio.create_task(gateway.client.get(url, headers=worker.headers))
    await until_held(gateway.services.workforce, worker.id)
    assert (await gateway.post("/v2/gpu/release")).json() == {"workers": [worker.id]}
    assert (await asyncio.wait_for(stops, 30)).json() == {"jobsToStop": [], "unload": True}
    plain, _ = [await submit(gateway, *names) for names in ((), ("film",))]
    assert await draw(worker) == plain
