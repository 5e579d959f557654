"""Pictures on their way to buckets of clients: nobody waits for them, and nothing is lost or done twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flux_endpoint.core.account import KeyLimits
from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.outbound.protocol import Answer
from flux_endpoint.service import uploads
from tests.api.conftest import DEADLINE_S, DEV, PNG_BYTES, FakeSender, Gateway, HandWorker, open_gateway

pytestmark = pytest.mark.anyio


class SilentSender(FakeSender):
    """Takes what is sent and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.under_way: Counter[str] = Counter()
        self.arrived = asyncio.Event()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        host = url.split("/")[2]
        self.under_way[host] += 1
        self.arrived.set()
        try:
            await self.gate.wait()
        finally:
            self.under_way[host] -= 1
        return await super().send(method, url, headers, body, timeout_s)

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.under_way.total() != count:
                self.arrived.clear()
                await self.arrived.wait()


@pytest.fixture
def silent() -> SilentSender:
    return SilentSender()


@pytest.fixture
async def gateway(tmp_path: Path, silent: SilentSender) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, silent) as opened:
        yield opened
        silent.gate.set()
        await opened.settle()


@contextlib.asynccontextmanager
async def carrying(gateway: Gateway) -> AsyncIterator["asyncio.Task[None]"]:
    """The uploads at work beside the test."""
    task = asyncio.create_task(gateway.uploads.run())
    # So that it listens before the test goes on.
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def submit(gateway: Gateway, host: str = "silent.example", key: str | None = None, **envelope: Any) -> str:
    s3 = {"accessId": "a", "accessSecret": "b", "bucketName": "pictures", "endpointUrl": f"https://{host}"}
    body = {"input": {"prompt": "a lake", "image_format": "png"}, "s3Config": s3} | envelope
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    reply = await gateway.post(f"{DEV}/run", body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def hand_in(worker: HandWorker) -> dict[str, Any]:
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    return job


async def status(gateway: Gateway, job_id: str) -> dict[str, Any]:
    return (await gateway.get(f"{DEV}/status/{job_id}")).json()


async def charged(gateway: Gateway) -> list[str]:
    return [entry.job_id for entry in await gateway.stores.accounts.entries()]


async def test_a_silent_bucket_holds_no_worker_and_nobody_elses_job(
    gateway: Gateway, worker: HandWorker, silent: SilentSender
) -> None:
    stuck = [await submit(gateway) for _ in range(6)]
    for _ in stuck:
        await hand_in(worker)
    other = await gateway.submit(image_format="png")
    await hand_in(worker)
    assert (await status(gateway, other))["status"] == "COMPLETED"
    for job_id in stuck:
        body = await status(gateway, job_id)
        assert (body["status"], body["workerId"]) == ("IN_PROGRESS", "worker-1")
    assert await charged(gateway) == [other]
    assert await worker.take() is None
    health = (await gateway.get(f"{DEV}/health")).json()
    assert (health["jobs"]["inProgress"], health["workers"]["running"]) == (6, 0)
    silent.gate.set()
    await gateway.settle()
    for job_id in stuck:
        body = await status(gateway, job_id)
        assert (body["status"], body["workerId"]) == ("COMPLETED", "worker-1")
    assert sorted(await charged(gateway)) == sorted([*stuck, other])


async def test_one_key_has_its_share_and_no_more(gateway: Gateway, worker: HandWorker, silent: SilentSender) -> None:
    _, secret = await gateway.services.accounts.create("other", limits=KeyLimits())
    for _ in range(uploads._MAX_PER_KEY + 3):
        await submit(gateway)
    for _ in range(uploads._MAX_PER_KEY + 3):
        await hand_in(worker)
    await silent.wait_for(uploads._MAX_PER_KEY)
    await submit(gateway, key=secret)
    await hand_in(worker)
    await silent.wait_for(uploads._MAX_PER_KEY + 1)


async def test_one_host_has_its_share_and_no_more(
    gateway: Gateway, worker: HandWorker, silent: SilentSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MAX_PER_HOST", 2)
    for host in ("slow.example", "slow.example", "slow.example", "other.example"):
        await submit(gateway, host)
        await hand_in(worker)
    await silent.wait_for(3)
    assert silent.under_way == {"slow.example": 2, "other.example": 1}


async def test_what_waits_in_memory_has_a_bound_for_each_key_and_for_all(
    gateway: Gateway, worker: HandWorker, silent: SilentSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await gateway.services.accounts.create("other", limits=KeyLimits())
    monkeypatch.setattr(uploads, "_MAX_BYTES_PER_KEY", 2 * len(PNG_BYTES))
    monkeypatch.setattr(uploads, "_MAX_BYTES", 3 * len(PNG_BYTES))
    jobs = [await submit(gateway, key=key) for key in (None, None, None, secret, secret)]
    for _ in jobs:
        await hand_in(worker)
    found = [await status(gateway, job_id) for job_id in jobs]
    assert [body["status"] for body in found] == ["IN_PROGRESS", "IN_PROGRESS", "FAILED", "IN_PROGRESS", "FAILED"]
    assert found[2]["error"] == "s3Config: 0 MiB of pictures of this API key wait for their buckets already"
    assert found[4]["error"] == "s3Config: too many pictures wait for the buckets of other clients; try again"
    silent.gate.set()
    await gateway.settle()
    assert sorted(await charged(gateway)) == sorted([jobs[0], jobs[1], jobs[3]])
    # What has gone makes room.
    again = await submit(gateway)
    await hand_in(worker)
    await gateway.settle()
    assert (await status(gateway, again))["status"] == "COMPLETED"


async def test_handed_in_twice_it_is_uploaded_once(gateway: Gateway, worker: HandWorker, silent: SilentSender) -> None:
    job_id = await submit(gateway)
    job = await hand_in(worker)
    for _ in range(3):
        await worker.finish(job)
    silent.gate.set()
    await gateway.settle()
    await worker.finish(job)
    await gateway.settle()
    assert len(silent.sent) == 1
    assert await charged(gateway) == [job_id]


async def test_who_carries_nothing_asks_for_no_stops(
    gateway: Gateway, worker: HandWorker, silent: SilentSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    store = gateway.stores.claims
    wait_for_stops = store.wait_for_stops

    async def counted(worker_id: str, timeout_s: float) -> list[str]:
        asked.append(worker_id)
        return await wait_for_stops(worker_id, timeout_s)

    monkeypatch.setattr(store, "wait_for_stops", counted)
    async with carrying(gateway):
        await submit(gateway)
        assert asked == []
        await hand_in(worker)
        await silent.wait_for(1)
        assert len(asked) == 1


@pytest.mark.parametrize("end", ["CANCELLED", "TIMED_OUT", "GONE"])
async def test_an_upload_ends_with_its_job(
    gateway: Gateway, worker: HandWorker, silent: SilentSender, end: str
) -> None:
    policy = {"executionTimeout": 5_000} | ({"ttl": 10_000} if end == "GONE" else {})
    job_id = await submit(gateway, policy=policy)
    async with carrying(gateway):
        await hand_in(worker)
        await silent.wait_for(1)
        if end == "CANCELLED":
            await gateway.post(f"{DEV}/cancel/{job_id}")
        else:
            gateway.clock.advance(s=10 if end == "GONE" else 5)
            await gateway.janitor.sweep()
        # The gate is shut: only a stop ends the upload.
        await asyncio.wait_for(gateway.settle(), DEADLINE_S)
    assert (await status(gateway, job_id)).get("status", "GONE") == end
    assert silent.sent == []
    assert await charged(gateway) == []


async def test_the_lease_is_kept_for_as_long_as_the_upload_takes(
    gateway: Gateway, worker: HandWorker, silent: SilentSender
) -> None:
    asked: asyncio.Queue[float] = asyncio.Queue()
    granted: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        asked.put_nowait(seconds)
        await granted.get()

    gateway.uploads._sleep = sleep
    job_id = await submit(gateway)
    async with carrying(gateway), asyncio.timeout(DEADLINE_S):
        assert await asked.get() == 10
        await hand_in(worker)
        for _ in range(6):
            gateway.clock.advance(s=10)
            granted.put_nowait(None)
            # It sleeps again: so the leases have been renewed.
            await asked.get()
            await gateway.janitor.sweep()
        assert "retries" not in await status(gateway, job_id)
        assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
        silent.gate.set()
        await gateway.settle()
    assert (await status(gateway, job_id))["status"] == "COMPLETED"


async def test_a_gateway_that_dies_loses_no_job(gateway: Gateway, worker: HandWorker, silent: SilentSender) -> None:
    job_id = await submit(gateway)
    await hand_in(worker)
    await silent.wait_for(1)
    # Nobody renews the lease: as after a kill.
    gateway.clock.advance(s=30)
    await gateway.janitor.sweep()
    assert (await status(gateway, job_id))["status"] == "IN_QUEUE"
    second = HandWorker(gateway.client, "worker-2")
    job = await second.take()
    assert job is not None
    silent.gate.set()
    await gateway.settle()
    # The upload of the dead is no end of the job.
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"
    assert await charged(gateway) == []
    await second.finish(job)
    await gateway.settle()
    body = await status(gateway, job_id)
    assert (body["status"], body["workerId"], body["retries"]) == ("COMPLETED", "worker-2", 1)
    assert await charged(gateway) == [job_id]


async def test_a_gateway_that_is_told_to_go_gives_back_what_it_cannot_end(
    gateway: Gateway, worker: HandWorker, silent: SilentSender
) -> None:
    job_id = await submit(gateway)
    async with carrying(gateway):
        await hand_in(worker)
        await silent.wait_for(1)
    body = await status(gateway, job_id)
    assert body == {"id": job_id, "status": "IN_QUEUE", "queuePosition": 1}
    assert silent.under_way.total() == 0
    # A worker elsewhere keeps its picture for the next process.
    job = await worker.take()
    assert job is not None
    assert (await worker.deliver(job)).status_code == 503
    assert (await status(gateway, job_id))["status"] == "IN_PROGRESS"


async def test_an_end_that_cannot_be_noted_is_noted_later(
    gateway: Gateway, worker: HandWorker, silent: SilentSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submit(gateway)
    await hand_in(worker)
    finish, troubles = gateway.stores.claims.finish, [StoreUnavailable("away"), StoreUnavailable("away")]

    async def finish_later(*arguments: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return await finish(*arguments)

    async def no_sleep(_: float) -> None: ...

    monkeypatch.setattr(gateway.stores.claims, "finish", finish_later)
    gateway.uploads._sleep = no_sleep
    silent.gate.set()
    await gateway.settle()
    assert (await status(gateway, job_id))["status"] == "COMPLETED"
    assert await charged(gateway) == [job_id]
