"""Workers that hang, die halfway or leave: what can be told from their calls, and what becomes of their jobs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.service.workforce import Workforce
from tests.api.asking import status, submit, until_held, workers
from tests.api.conftest import ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio

IDLE = {"idle": 1, "ready": 1}
BUSY = {"ready": 1, "running": 1}


@contextlib.asynccontextmanager
async def hanging_up(workforce: Workforce, operation: str, worker_id: str = "pod-1") -> AsyncIterator[None]:
    """A call of a worker that is held during the block, and dropped at its end."""
    call = (
        workforce.take(worker_id, ["echo"], 600) if operation == "take" else workforce.stops(worker_id, ["echo"], 600)
    )
    held = asyncio.create_task(call)
    await until_held(workforce, worker_id)
    try:
        yield
    finally:
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)


async def one_round(gateway: Gateway) -> None:
    """The janitor begins, sweeps once, and sleeps."""
    slept = asyncio.Event()
    gateway.janitor._sleep = lambda _: asyncio.sleep(3_600, slept.set())
    running = asyncio.create_task(gateway.janitor.run())
    await slept.wait()
    running.cancel()


async def pass_time(gateway: Gateway, third_party: ThirdPartyWorker, seconds: int, job_id: str = "") -> None:
    """Let time pass in which only pings come, naming a job or none."""
    for _ in range(0, seconds, 10):
        gateway.clock.advance(s=10)
        await third_party.get("ping", f"&job_id={job_id}" if job_id else "")
        await gateway.janitor.sweep()


async def test_a_ping_alone_makes_no_worker(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    # 1. One that has never asked for a job.
    await third_party.get("ping")
    await pass_time(gateway, third_party, 60)
    assert await workers(gateway) == {"initializing": 1}
    await pass_time(gateway, third_party, 10)
    assert await workers(gateway) == {"unhealthy": 1}
    assert not await gateway.services.workforce.serves("echo")
    # 2. One that has, and has ended but for its pings.
    await third_party.get("job-take")
    assert await workers(gateway) == IDLE
    await pass_time(gateway, third_party, 10)
    assert await workers(gateway) == BUSY
    await pass_time(gateway, third_party, 60)
    assert await workers(gateway) == {"unhealthy": 1}
    # 3. It is there after all.
    await third_party.get("job-take")
    assert await workers(gateway) == IDLE


async def test_other_gateways_know_who_only_pings(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    first = gateway.services.workforce
    second = Workforce(first._store, gateway.stores.workers, first.reports._pictures, first._catalog, gateway.clock)
    await third_party.get("job-take")
    assert (await second.counts("echo")).idle == 1
    await pass_time(gateway, third_party, 70)
    counts = await second.counts("echo")
    assert (counts.ready, counts.unhealthy) == (0, 1)


async def test_a_worker_is_not_idle_before_it_asks_again(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    await gateway.post(f"{ECHO}/cancel/{job_id}")
    assert (await third_party.get("job-stop")).json() == {"jobsToStop": [job_id]}
    assert await workers(gateway) == BUSY
    await third_party.get("job-take")
    assert await workers(gateway) == IDLE


async def test_who_the_workers_are_and_why_they_do_not_work(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    await gateway.services.workforce.own.expect("a", ["echo"], "the worker before it died: signal SIGKILL")
    await third_party.get("job-take")
    other = ThirdPartyWorker(gateway, "pod-2")
    await other.get("ping", "&status=unhealthy&check=gpu&reason=no device")
    assert (await gateway.get(f"{ECHO}/health?details=true")).json()["details"] == [
        {"id": "a", "state": "initializing", "reason": "the worker before it died: signal SIGKILL"},
        {"id": "pod-1", "state": "idle"},
        {"id": "pod-2", "state": "unhealthy", "reason": "gpu: no device"},
    ]


@pytest.mark.parametrize("operation", ["take", "stops"])
async def test_pings_of_a_process_whose_worker_hung_up_keep_no_job(
    gateway: Gateway, third_party: ThirdPartyWorker, operation: str
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    async with hanging_up(gateway.services.workforce, operation):
        await pass_time(gateway, third_party, 100, job_id)
        assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    # Its pings go on; within two leases the job is somebody else's.
    await pass_time(gateway, third_party, 60, job_id)
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    worker = (await gateway.get(f"{ECHO}/health?details=true")).json()["details"][0]
    reason = "it hung up and only pings since: its process has ended, as it seems"
    assert worker == {"id": "pod-1", "state": "unhealthy", "reason": reason}
    await third_party.get("job-stop")
    assert await workers(gateway) != {"unhealthy": 1}


async def test_whoever_calls_again_after_hanging_up_keeps_its_job(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    for _ in range(5):
        async with hanging_up(gateway.services.workforce, "stops"):
            await pass_time(gateway, third_party, 20, job_id)
    assert (await third_party.done(job_id, {"status": "IN_PROGRESS", "output": 1})).status_code == 200
    await pass_time(gateway, third_party, 60, job_id)
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


async def test_a_handler_that_blocks_its_loop_keeps_its_job_by_pings_alone(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    # Answered; the blocked loop reads it after the handler and calls no more until then.
    assert (await third_party.get("job-stop")).status_code == 204
    await pass_time(gateway, third_party, 500, job_id)
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    assert await workers(gateway) == BUSY
    assert (await third_party.done(job_id, {"output": 1})).status_code == 200


async def test_a_job_that_its_worker_no_longer_runs_and_never_reported(
    gateway: Gateway, third_party: ThirdPartyWorker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submit(gateway)
    assert (await third_party.take())["id"] == job_id
    # No time passes: the worker says itself that it runs nothing.
    assert (await third_party.take())["id"] == job_id
    assert (await third_party.get("job-take", "&job_in_progress=0")).status_code == 204
    body = await status(gateway, job_id)
    assert (body["status"], body["retries"]) == ("FAILED", 1)
    assert body["error"] == (
        "the worker ended the job without a report that reached this server: its result may be no JSON, or the worker "
        "was started anew; its log says more"
    )
    assert f"asks for a job and has not reported {job_id}" in caplog.text


async def test_of_two_processes_with_one_name_neither_is_believed_to_have_ended_a_job(
    gateway: Gateway, third_party: ThirdPartyWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async with hanging_up(gateway.services.workforce, "take"):
        assert (await third_party.get("job-take", "&job_in_progress=0")).status_code == 204
    assert "worker pod-1 asks for jobs twice at once: do two processes use its name?" in caplog.text
    job_id = await submit(gateway)
    await third_party.take()
    # The other one asks, and runs nothing; then it leaves.
    assert (await third_party.get("job-take", "&job_in_progress=0")).status_code == 204
    assert (await third_party.get("ping", "&status=leaving")).status_code == 200
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    assert await workers(gateway) == BUSY


async def test_a_ping_for_a_job_that_was_ended_unreported_tells_two_processes(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    first = await submit(gateway)
    await third_party.take()
    await third_party.get("job-take", "&job_in_progress=0")
    assert (await status(gateway, first))["retries"] == 1
    gateway.clock.advance(s=6)
    await third_party.get("ping", f"&job_id={first}")
    # From now on only leases decide.
    assert (await third_party.get("job-take", "&job_in_progress=0")).status_code == 204
    assert (await status(gateway, first))["status"] == "IN_PROGRESS"


async def test_a_job_of_a_worker_that_left_in_good_order_is_not_blamed(gateway: Gateway) -> None:
    job_id = await submit(gateway)
    for pod, retries in (("pod-1", 0), ("pod-2", 0), ("pod-3", 1)):
        leaving = ThirdPartyWorker(gateway, pod)
        # After a SIGTERM Runpod's SDK takes one job more, hears the answer of its last call on the stop channel, ends.
        assert (await leaving.take())["id"] == job_id
        gateway.clock.advance(s=15)
        assert (await leaving.get("job-stop")).status_code == 204
        gateway.clock.advance(s=31)
        await gateway.janitor.sweep()
        job = await gateway.stores.jobs.get("echo", job_id)
        assert (job.status, job.retries) == ("IN_QUEUE", retries), pod


async def test_a_worker_that_says_goodbye_counts_no_longer(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    neighbour = ThirdPartyWorker(gateway, f"{third_party.id}0")
    assert (await neighbour.get("job-take")).status_code == 204
    job_id = await submit(gateway)
    await third_party.take()
    workforce = gateway.services.workforce
    async with hanging_up(workforce, "take", third_party.id):
        assert (await third_party.get("ping", "&status=leaving")).status_code == 200
        job = await gateway.stores.jobs.get("echo", job_id)
        # Its call that is held gets nothing any more.
        assert (job.status, job.retries) == ("IN_QUEUE", 0)
        assert await workers(gateway) == IDLE
    assert (await neighbour.take())["id"] == job_id
    assert await workers(gateway) == BUSY
    # One of its name comes again.
    other_id = await submit(gateway)
    assert (await third_party.take())["id"] == other_id
    assert await workers(gateway) == {"ready": 2, "running": 2}
    # Another gateway handed it that.
    workforce._registry._workers.clear()
    await third_party.get("ping", "&status=leaving")
    assert await workers(gateway) == BUSY
    job = await gateway.stores.jobs.get("echo", other_id)
    assert (job.status, job.retries) == ("IN_QUEUE", 0)


async def test_a_worker_without_a_job_that_has_fallen_silent_does_not_run(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    await third_party.get("job-take")
    gateway.clock.advance(s=31)
    told = (await gateway.get(f"{ECHO}/health?details=true")).json()["details"]
    assert told == [{"id": "pod-1", "state": "unhealthy", "reason": "nothing was heard of it for 31 s"}]
    await third_party.get("ping")
    gateway.clock.advance(s=5)
    assert await workers(gateway) == BUSY


async def test_a_gateway_that_was_away_for_longer_than_a_lease_waits_for_those_that_drew_meanwhile(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    back, gone = await submit(gateway), await submit(gateway)
    for pod, job_id in (("pod-1", back), ("pod-2", gone)):
        assert (await ThirdPartyWorker(gateway, pod).take())["id"] == job_id
    gateway.clock.advance(s=31)
    await one_round(gateway)
    assert (await status(gateway, back))["status"] == "IN_PROGRESS"
    gateway.clock.advance(s=20)
    await third_party.get("ping", f"&job_id={back}")
    gateway.clock.advance(s=10)
    await gateway.janitor.sweep()
    assert (await status(gateway, back))["status"] == "IN_PROGRESS"
    assert (await status(gateway, gone))["status"] == "IN_QUEUE"


async def test_a_database_that_was_away_for_longer_than_a_lease_costs_nobody_a_job(
    gateway: Gateway, third_party: ThirdPartyWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submit(gateway)
    await third_party.take()

    async def away(*args: object, **options: object) -> None:
        gateway.clock.advance(s=40)
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.stores.claims, "sweep", away)
        await one_round(gateway)
    await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"


async def test_a_worker_that_dies_at_once_costs_its_job_the_retry(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    job_id = await submit(gateway)
    await third_party.take()
    async with hanging_up(gateway.services.workforce, "stops"):
        gateway.clock.advance(s=5)
    gateway.clock.advance(s=31)
    await gateway.janitor.sweep()
    job = await gateway.stores.jobs.get("echo", job_id)
    assert (job.status, job.retries) == ("IN_QUEUE", 1)


async def test_a_worker_whose_stop_channel_is_silent_gets_nothing_until_it_asks_again(
    gateway: Gateway, third_party: ThirdPartyWorker
) -> None:
    workforce = gateway.services.workforce
    assert (await third_party.get("job-stop")).status_code == 204
    held = asyncio.create_task(workforce.take(third_party.id, ["echo"], 600))
    await until_held(workforce, third_party.id)
    gateway.clock.advance(s=3)
    job_id = await submit(gateway)
    # It seems to leave: what it got now, it would drop.
    assert await asyncio.wait_for(held, 30) == []
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    assert (await third_party.take())["id"] == job_id
