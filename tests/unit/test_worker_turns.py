"""A worker that draws several pictures in turn."""

import asyncio
import threading

import pytest

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.picture_work import picture_work, step_work
from flux_endpoint.engine.protocol import EncodedImage, ModelInfo, StepDone
from tests.unit.gateway_in_memory import DEADLINE_S, GatewayInMemory, job, working

pytestmark = pytest.mark.anyio

LONG_STEPS = 50


class TimedEngine:
    """Takes time by size, on a clock of its own; a picture of 1024 pixels waits after each step until it may go on."""

    info = ModelInfo("timed", ModelFamily.DEV, "none")

    def __init__(self):
        self.now_s = 0.0
        self.slices = []
        self.closed = []
        self.error_of = None
        self.permits = threading.Semaphore(0)
        self.waits = threading.Semaphore(0)

    def monotonic_s(self):
        return self.now_s

    def load(self):
        pass

    def close(self):
        pass

    def generate(self, request, *sources):
        try:
            for step in range(1, request.num_inference_steps + 1):
                self.now_s += step_work(request.width, request.height) / 1_000
                self.slices.append(request.prompt)
                if request.prompt == self.error_of:
                    raise RuntimeError("broken")
                if request.width == 1024:
                    self.waits.release()
                    assert self.permits.acquire(timeout=DEADLINE_S)
                yield StepDone(step, request.num_inference_steps)
            return lambda: EncodedImage(request.prompt.encode(), request.image_format, request.width, request.height)
        finally:
            self.closed.append(request.prompt)

    async def wait_steps(self, count):
        for _ in range(count):
            assert await asyncio.to_thread(self.waits.acquire, timeout=DEADLINE_S)


def long(job_id):
    return job(job_id, LONG_STEPS, prompt=job_id, width=1024, height=1024)


def short(job_id, **changes):
    return job(job_id, 2, prompt=job_id, **changes)


async def draw_two_steps_of_a_long_one(gateway, engine):
    """From then on the worker knows what steps cost, and asks for more."""
    gateway.jobs.put_nowait(long("long"))
    await engine.wait_steps(1)
    engine.permits.release(2)
    await engine.wait_steps(2)
    assert await gateway.next(gateway.takes) == "0"
    assert await gateway.next(gateway.takes) == "1"


async def hand_out(gateway, body):
    """Returns when the worker has begun with it and asks for more."""
    gateway.jobs.put_nowait(body)
    assert await gateway.next(gateway.takes) == "1"


async def test_a_short_picture_goes_before_the_rest_of_a_long_one():
    gateway, engine = GatewayInMemory(), TimedEngine()
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s):
        await draw_two_steps_of_a_long_one(gateway, engine)
        # A quarter of what the long one takes.
        at_most = int(gateway.rooms[1][0])
        assert at_most == pytest.approx(LONG_STEPS / 4 * step_work(1024, 1024), rel=0.01)
        assert picture_work(short("short")["input"]) < at_most
        await hand_out(gateway, short("short"))
        # There is room for less now.
        assert int(gateway.rooms[2][0]) < at_most - 2 * step_work(256, 256)
        engine.permits.release(1)
        assert (await gateway.next(gateway.results))[0] == "short"
        engine.permits.release(LONG_STEPS)
        assert await gateway.next(gateway.results) == ("long", ("image/png", b"long", []))
    assert engine.slices == ["long"] * 3 + ["short"] * 2 + ["long"] * (LONG_STEPS - 3)


async def test_a_worker_whose_long_picture_is_stopped_has_room_for_another_long_one():
    gateway, engine = GatewayInMemory(), TimedEngine()
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s):
        await draw_two_steps_of_a_long_one(gateway, engine)
        gateway.stops.put_nowait("long")
        engine.permits.release(1)
        # The question for short ones is over long before the picture would have been.
        assert await gateway.next(gateway.takes) == "0"
        assert gateway.rooms[1:] == [(gateway.rooms[1][0], "1000"), (None, None)]


async def test_with_one_slot_nothing_is_taken_before_the_end():
    gateway, engine = GatewayInMemory(), TimedEngine()
    gateway.jobs.put_nowait(long("long"))
    gateway.jobs.put_nowait(short("short"))
    async with working(gateway, engine, slots=1, monotonic_s=engine.monotonic_s):
        engine.permits.release(LONG_STEPS)
        assert [(await gateway.next(gateway.results))[0] for _ in range(2)] == ["long", "short"]
    assert engine.slices == ["long"] * LONG_STEPS + ["short"] * 2
    assert set(gateway.rooms) == {(None, None)}


async def test_a_picture_whose_turn_it_is_not_stops_within_one_step_of_another():
    gateway, engine = GatewayInMemory(), TimedEngine()
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s):
        await draw_two_steps_of_a_long_one(gateway, engine)
        # It is 1024 pixels wide, too, and so waits in its step.
        await hand_out(gateway, job("other", 1, prompt="other", width=1024, height=256))
        engine.permits.release(1)
        await engine.wait_steps(1)
        assert engine.slices == ["long"] * 3 + ["other"]
        await gateway.stop("long")
        engine.permits.release(1)
        assert (await gateway.next(gateway.results))[0] == "other"
    assert engine.slices == ["long"] * 3 + ["other"]
    assert sorted(engine.closed) == ["long", "other"]
    assert gateway.results.empty()


async def test_a_leaving_worker_gives_all_its_jobs_back():
    gateway, engine = GatewayInMemory(), TimedEngine()
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s) as (leave, task):
        await draw_two_steps_of_a_long_one(gateway, engine)
        await hand_out(gateway, short("short"))
        leave.set()
        await asyncio.wait_for(task, DEADLINE_S)
        given_back = dict([await gateway.next(gateway.results), await gateway.next(gateway.results)])
    assert given_back == {"long": {"returned": True}, "short": {"returned": True}}


async def test_a_picture_that_fails_takes_no_other_with_it():
    gateway, engine = GatewayInMemory(), TimedEngine()
    engine.error_of = "short"
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s):
        await draw_two_steps_of_a_long_one(gateway, engine)
        await hand_out(gateway, short("short"))
        engine.permits.release(LONG_STEPS)
        results = dict([await gateway.next(gateway.results), await gateway.next(gateway.results)])
    assert results["short"] == {"error": "image generation failed: RuntimeError: broken"}
    assert results["long"] == ("image/png", b"long", [])


async def test_the_leases_of_all_are_kept():
    gateway, engine = GatewayInMemory(), TimedEngine()
    async with working(gateway, engine, slots=3, monotonic_s=engine.monotonic_s):
        await draw_two_steps_of_a_long_one(gateway, engine)
        await hand_out(gateway, short("short", lease_ms=30))
        while await gateway.next(gateway.pings) != "long,short":
            pass
