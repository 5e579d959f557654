"""Workers of this machine that hang, are refused or have a device that fails: in sight, and ended."""

import asyncio

import pytest

from tests.api.asking import status, submit, until_held, workers
from tests.api.conftest import ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio


@pytest.fixture
def ended(gateway: Gateway) -> list[tuple[str, str]]:
    """What the gateway, which has started `w-1`, told its fleet to end."""
    told: list[tuple[str, str]] = []

    async def note(worker_id: str, why: str) -> None:
        told.append((worker_id, why))

    gateway.services.workforce._losses._on_stuck = note
    return told


async def job_of_own_worker(gateway: Gateway) -> str:
    """The id of a job that `w-1` of this machine has taken."""
    workforce = gateway.services.workforce
    await workforce.own.expect("w-1", ["echo"])
    job_id = await submit(gateway)
    assert len(await workforce.take("w-1", ["echo"], 0)) == 1
    return job_id


async def test_a_worker_of_this_machine_that_loses_its_lease_is_ended(
    gateway: Gateway, ended: list[tuple[str, str]]
) -> None:
    job_id = await job_of_own_worker(gateway)
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    assert ended == [("w-1", f"it lost the lease of job {job_id}")]


async def test_a_worker_of_this_machine_that_falls_silent_is_ended(
    gateway: Gateway, ended: list[tuple[str, str]]
) -> None:
    workforce = gateway.services.workforce
    await workforce.own.expect("w-1", ["echo"])
    # Loading may take long, and says nothing; it is shown all the time.
    for _ in range(100):
        gateway.clock.advance(s=10)
        await gateway.janitor.sweep()
    assert await workers(gateway) == {"initializing": 1}
    await workforce.take("w-1", ["echo"], 0)
    held = asyncio.create_task(workforce.take("w-1", ["echo"], 600))
    await until_held(workforce, "w-1")
    gateway.clock.advance(s=30)
    await workforce.ping("w-1", ["echo"], [])
    gateway.clock.advance(s=20)
    # Neither a call that the gateway holds nor its end is a sign of life: a process that is stopped has them, too.
    held.cancel()
    await asyncio.wait({held})
    gateway.clock.advance(s=10)
    await gateway.janitor.sweep()
    assert ended == []
    gateway.clock.advance(s=1)
    await gateway.janitor.sweep()
    assert ended == [("w-1", "it has been silent for 31 s")]


@pytest.mark.parametrize("end", ["cancel", "timeout"])
async def test_a_worker_of_this_machine_that_does_not_obey_a_stop_is_ended(
    gateway: Gateway, ended: list[tuple[str, str]], end: str
) -> None:
    workforce = gateway.services.workforce
    await workforce.own.expect("w-1", ["echo"])
    first = await submit(gateway, policy={"executionTimeout": 200_000})
    second = await submit(gateway)
    await workforce.take("w-1", ["echo"], 0)
    await workforce.take("w-1", ["echo"], 0)

    async def live(seconds: int, *job_ids: str) -> None:
        for _ in range(0, seconds, 10):
            gateway.clock.advance(s=10)
            await workforce.ping("w-1", ["echo"], job_ids)
            await workforce.stops("w-1", ["echo"], 0)
            await gateway.janitor.sweep()

    await live(190, first, second)
    if end == "cancel":
        await gateway.post(f"{ECHO}/cancel/{first}")
    # 1. Another job keeps it busy, however long.
    await live(300, first, second)
    assert (await status(gateway, second))["status"] == "IN_PROGRESS"
    assert ended == []
    # 2. With that over as well, it has its time, and does not ask again.
    await gateway.post(f"{ECHO}/cancel/{second}")
    await live(120, second)
    assert ended == []
    assert await workers(gateway) == {"unhealthy": 1}
    await live(20)
    worker_id, why = ended[0]
    assert worker_id == "w-1"
    assert why.startswith("its job is over, and it has not asked for another for 1")


async def test_a_refused_worker_stays_in_sight(gateway: Gateway) -> None:
    workforce = gateway.services.workforce
    await workforce.own.expect("w-1", ["echo"])
    await workforce.ping_unhealthy("w-1", ["echo"], "no model at ./nowhere")
    await workforce.own.refused("w-1", "it ended with exit code 78")
    for _ in range(100):
        gateway.clock.advance(s=10)
        await gateway.janitor.sweep()
    worker = (await gateway.get(f"{ECHO}/health?details=true")).json()["details"]
    assert worker == [{"id": "w-1", "state": "unhealthy", "reason": "no model at ./nowhere"}]
    assert not await workforce.serves("echo")
    await workforce.own.expect("w-2", ["echo"])
    await workforce.own.refused("w-2", "it ended with exit code 2")
    worker = (await gateway.get(f"{ECHO}/health?details=true")).json()["details"][1]
    assert worker == {"id": "w-2", "state": "unhealthy", "reason": "it ended with exit code 2"}


async def test_a_worker_of_this_machine_whose_device_fails_is_ended_unless_it_ends_by_itself(
    gateway: Gateway, ended: list[tuple[str, str]]
) -> None:
    workforce = gateway.services.workforce
    job_id = await job_of_own_worker(gateway)
    await workforce.ping_unhealthy("w-1", ["echo"], "cuda:0 has failed: CUDA error: unspecified launch failure")
    # Its job is free at once, and nothing more is given to it.
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    assert await workforce.take("w-1", ["echo"], 0) == []
    assert await workers(gateway) == {"unhealthy": 1}
    gateway.clock.advance(s=10)
    await gateway.janitor.sweep()
    assert ended == []
    gateway.clock.advance(s=1)
    await gateway.janitor.sweep()
    assert ended == [("w-1", "cuda:0 has failed: CUDA error: unspecified launch failure")]


async def test_a_worker_of_somebody_else_whose_device_fails_stays_in_sight_and_gets_nothing(
    gateway: Gateway, third_party: ThirdPartyWorker, ended: list[tuple[str, str]]
) -> None:
    await third_party.get("job-take")
    await third_party.get("ping", "&status=unhealthy&check=gpu&reason=no+device")
    await submit(gateway)
    for _ in range(6):
        gateway.clock.advance(s=10)
        await gateway.janitor.sweep()
        assert (await third_party.get("job-take")).status_code == 204
    assert await workers(gateway) == {"unhealthy": 1}
    assert ended == []
