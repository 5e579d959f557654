"""How fast a worker is, and when it says so."""

import asyncio

import pytest

from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.errors import DeviceFailed
from flux_endpoint.core.worker import WorkerRecord, WorkerState
from flux_endpoint.engine.calibration import CALIBRATION, time_step
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.service.worker_speed import throttled
from flux_endpoint.worker.calibration import Calibration
from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import Reply
from flux_endpoint.worker.runner import EngineThread, StopFlag
from flux_endpoint.worker.turns import Shape
from tests.unit.gateway_in_memory import DEADLINE_S, SteppedEngine

pytestmark = pytest.mark.anyio


def test_the_fastest_step_counts_and_the_first_does_not():
    # When the device has done the text, and then each of four steps.
    ends_s, waits, log = iter([1.0, 11.0, 13.5, 15.0, 18.0]), [], []

    def drawing():
        try:
            yield None
            yield from FakeEngine(FLUX_DEV).generate(CALIBRATION)
            log.append("decoded")
        finally:
            log.append("dropped")

    assert time_step(drawing(), lambda: waits.append(None), lambda: next(ends_s)) == 1.5
    assert len(waits) == 5
    assert log == ["dropped"], "nobody needs the picture"


class Timed(FakeEngine):
    """Takes the times of a list for its steps; an error is raised."""

    def __init__(self, *times):
        super().__init__(FLUX_DEV)
        self.times = list(times)

    def time_step(self):
        time_s = self.times.pop(0)
        if isinstance(time_s, Exception):
            raise time_s
        return time_s


class Sleeps:
    """Sleeps that the test has seen, one after another."""

    def __init__(self):
        self.asked = asyncio.Queue()
        self.over = asyncio.Queue()

    async def __call__(self, seconds):
        self.asked.put_nowait(seconds)
        await self.over.get()

    async def next(self):
        return await asyncio.wait_for(self.asked.get(), DEADLINE_S)


async def test_it_is_measured_at_the_start_and_every_hour_while_nothing_is_drawn():
    engine, busy = Timed(0.02, RuntimeError("odd"), 0.03, None), SteppedEngine()
    sleeps, thread = Sleeps(), EngineThread()
    calibration = Calibration(engine, thread, sleeps)
    assert calibration.step_us is None
    running = asyncio.create_task(calibration.run())
    assert await sleeps.next() == 3_600
    assert calibration.step_us == 20_000
    # One that fails leaves the figure as it was.
    sleeps.over.put_nowait(None)
    assert await sleeps.next() == 3_600
    assert calibration.step_us == 20_000
    # A picture is drawn: it is not held up.
    drawn = asyncio.create_task(
        thread.generate("a", busy, CALIBRATION, Shape.of("dev", CALIBRATION.to_input()), StopFlag(), lambda _: None)
    )
    await busy.wait_stepping()
    sleeps.over.put_nowait(None)
    assert await sleeps.next() == 60
    busy.permits.release(100)
    await drawn
    sleeps.over.put_nowait(None)
    assert await sleeps.next() == 3_600
    assert calibration.step_us == 30_000
    running.cancel()
    thread.close(DEADLINE_S)


async def test_a_device_that_fails_at_it_ends_the_worker():
    thread = EngineThread()
    with pytest.raises(DeviceFailed):
        await Calibration(Timed(DeviceFailed("gone")), thread).run()
    thread.close(DEADLINE_S)


async def test_it_is_told_with_pings_once_it_is_known():
    queries, told = [], iter([None, 1500])

    class Line:
        async def request(self, method, path, query, body, media_type, patience):
            queries.append(dict(query))
            return Reply(200, b'{"jobsToStop": []}')

    gateway = Gateway(Line(), ["dev"], "w-1", "cpu", step_us=lambda: next(told))
    await gateway.ping([])
    await gateway.ping([])
    assert queries == [{}, {"stepUs": "1500"}]


def workers(**steps_us):
    return [
        WorkerRecord(name, frozenset({"dev"}), WorkerState.READY, "", 0, 0, fingerprint=name[0], step_us=step_us)
        for name, step_us in steps_us.items()
    ]


@pytest.mark.parametrize(
    ("steps_us", "slow"),
    [
        ({}, []),
        ({"a1": 100}, []),
        ({"a1": 100, "a2": 100, "a3": 142}, []),
        ({"a1": 100, "a2": 100, "a3": 144}, ["a3"]),
        # The median: one slow one does not make the others fast, nor does one that has not said.
        ({"a1": 100, "a2": 105, "a3": 1000, "a4": None}, ["a3"]),
        # Of another kind.
        ({"a1": 100, "a2": 100, "b1": 500, "b2": 490}, []),
        ({"a1": 100, "a2": 300}, ["a2"]),
    ],
)
def test_a_worker_is_throttled_below_seven_tenths_of_the_usual(steps_us, slow):
    assert sorted(throttled(workers(**steps_us))) == slow


def test_why_a_worker_is_throttled_is_said_in_words():
    why = throttled(workers(a1=20_000, a2=20_000, a3=50_000))["a3"]
    assert why == "its step takes 50.0 ms, 20.0 ms is usual for its kind"


def test_whoever_does_not_say_of_which_kind_it_is_is_compared_with_nobody():
    strangers = [
        WorkerRecord(str(step_us), frozenset({"dev"}), WorkerState.READY, "", 0, 0, step_us=step_us)
        for step_us in (100, 100, 900)
    ]
    assert throttled(strangers) == {}
