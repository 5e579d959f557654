"""Progress of a running job, on its way to the gateway."""

import asyncio

import pytest

from flux_endpoint.core.errors import LeaseLost
from flux_endpoint.engine.protocol import StepDone
from flux_endpoint.worker.client import TakenJob
from flux_endpoint.worker.progress import Progress

pytestmark = pytest.mark.anyio
JOB = TakenJob("job-1", "endpoint", {}, 3, 30.0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class NotedGateway:
    def __init__(self, error=None):
        self.sent = asyncio.Queue()
        self.error = error

    async def send_progress(self, job, progress):
        self.sent.put_nowait((job.id, progress))
        if self.error:
            raise self.error


class HandClock:
    """Time and pauses that pass when the test says so."""

    def __init__(self):
        self.now_s = 100.0
        self.pauses = asyncio.Queue()

    async def sleep(self, seconds):
        await self.pauses.get()

    def end_pause(self, seconds):
        self.now_s += seconds
        self.pauses.put_nowait(None)


async def in_thread(progress, *steps):
    for step in steps:
        await asyncio.to_thread(progress.note, step)


async def test_the_latest_step_is_sent_once_a_period_with_the_time_left():
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(1, 10), StepDone(2, 10))
        assert gateway.sent.empty()
        clock.end_pause(4)
        assert await gateway.sent.get() == ("job-1", {"step": 2, "total": 10, "eta_ms": 16_000})
        clock.end_pause(1)
        await in_thread(progress, StepDone(3, 10))
        assert (await gateway.sent.get())[1] == {"step": 3, "total": 10, "eta_ms": 11_667}
    assert gateway.sent.empty()


async def test_a_picture_that_is_done_at_once_sends_nothing():
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(1, 1))
    assert gateway.sent.empty()


async def test_a_refusal_ends_the_progress_and_not_the_job():
    gateway, clock = NotedGateway(LeaseLost("cancelled")), HandClock()
    progress = Progress(gateway, JOB, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(1, 10))
        clock.end_pause(1)
        await gateway.sent.get()
