"""Progress of a running job, on its way to the gateway."""

import asyncio
from dataclasses import replace

import pytest

from flux_endpoint.core.errors import LeaseLost
from flux_endpoint.engine.protocol import StepDone
from flux_endpoint.worker.client import TakenJob
from flux_endpoint.worker.progress import FinishTimes, Progress
from flux_endpoint.worker.turns import Shape

pytestmark = pytest.mark.anyio
JOB = TakenJob("job-1", "endpoint", {}, 3, 30.0)


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


async def due(progress):
    """Returns when a pause has ended and the next step will be sent."""
    while not progress._is_due:  # noqa: ASYNC110 (a plain flag, because another thread reads it)
        await asyncio.sleep(0)


async def test_the_first_step_after_a_pause_is_sent_with_the_time_left():
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(1, 10))
        assert gateway.sent.empty()
        clock.end_pause(4)
        await due(progress)
        await in_thread(progress, StepDone(2, 10))
        assert await gateway.sent.get() == ("job-1", {"step": 2, "total": 10, "percent": 20, "eta_ms": 16_000})
        await in_thread(progress, StepDone(3, 10))
        clock.end_pause(1)
        await due(progress)
        assert gateway.sent.empty()
        await in_thread(progress, StepDone(4, 10))
        assert (await gateway.sent.get())[1] == {"step": 4, "total": 10, "percent": 40, "eta_ms": 7_500}
    assert gateway.sent.empty()


async def test_the_last_step_is_sent_while_the_picture_is_decoded_and_nothing_after_it():
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(9, 10), StepDone(10, 10))
        clock.end_pause(4)
        assert await gateway.sent.get() == ("job-1", {"step": 10, "total": 10, "percent": 100, "eta_ms": 0})
        clock.end_pause(4)
        await asyncio.sleep(0.01)
    assert gateway.sent.empty()


@pytest.mark.parametrize(
    ("finish_s", "after_half", "after_all"),
    [
        (12, (20, 12_000 + 4_000), (40, 12_000)),
        # Until one was seen, the end is taken for a quarter of the steps.
        (None, (40, 2_000 + 4_000), (80, 2_000)),
    ],
)
async def test_decoding_and_encoding_are_part_of_the_whole(finish_s, after_half, after_all):
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, finish_s, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        clock.end_pause(4)
        await due(progress)
        assert progress.finishing_s is None
        await in_thread(progress, StepDone(5, 10))
        percent, eta_ms = after_half
        assert (await gateway.sent.get())[1] == {"step": 5, "total": 10, "percent": percent, "eta_ms": eta_ms}
        clock.now_s += 4
        await in_thread(progress, StepDone(10, 10))
        clock.end_pause(0)
        percent, eta_ms = after_all
        assert (await gateway.sent.get())[1] == {"step": 10, "total": 10, "percent": percent, "eta_ms": eta_ms}
        clock.now_s += 3
        assert progress.finishing_s == 3


def test_the_end_is_expected_to_take_as_long_as_that_of_the_last_picture_alike():
    finishes, small = FinishTimes(), Shape("dev", 512, 512, 1, "none")
    assert finishes.expected_s(small, "png") is None
    finishes.note(small, "png", 3)
    finishes.note(small, "png", 2)
    assert finishes.expected_s(replace(small, width=1024, passes=2), "png") == 4
    for other, image_format in (
        (small, "jpeg"),
        (replace(small, level="high"), "png"),
        (replace(small, endpoint_id="schnell"), "png"),
    ):
        assert finishes.expected_s(other, image_format) is None


async def test_a_preview_is_made_for_the_step_that_is_sent_only():
    gateway, clock, made = NotedGateway(), HandClock(), []

    def step(number):
        return StepDone(number, 10, lambda: made.append(number) or b"jpeg")

    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, step(1), step(2))
        clock.end_pause(1)
        await due(progress)
        await in_thread(progress, step(3))
        sent = (await gateway.sent.get())[1]
        await in_thread(progress, step(4))
    assert sent["preview"] == "data:image/jpeg;base64,anBlZw=="
    assert made == [3]


async def test_a_preview_that_fails_is_left_out(caplog):
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        clock.end_pause(1)
        await due(progress)
        await in_thread(progress, StepDone(1, 2, lambda: 1 // 0))
        assert (await gateway.sent.get())[1] == {"step": 1, "total": 2, "percent": 50, "eta_ms": 1_000}
    assert "no preview of step 1" in caplog.text


async def test_a_picture_that_is_done_at_once_sends_nothing():
    gateway, clock = NotedGateway(), HandClock()
    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        await in_thread(progress, StepDone(1, 1))
    assert gateway.sent.empty()


async def test_a_refusal_ends_the_progress_and_not_the_job():
    gateway, clock = NotedGateway(LeaseLost("cancelled")), HandClock()
    progress = Progress(gateway, JOB, 0, clock.sleep, lambda: clock.now_s)
    async with progress.sending():
        clock.end_pause(1)
        await due(progress)
        await in_thread(progress, StepDone(1, 10))
        await gateway.sent.get()
