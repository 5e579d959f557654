"""The gateway's side of a fleet on Ray, with a tiny real process in the place of the driver."""

import asyncio
import json
import sys

import pytest

from flux_endpoint.fleet.local import Backoff
from flux_endpoint.fleet.ray_fleet import RayFleet
from flux_endpoint.fleet.ray_messages import DriverSettings, FleetReport, FleetRequest, PlacedWorker

pytestmark = pytest.mark.anyio

DEADLINE_S = 30
SETTINGS = DriverSettings(None, "n", "http://g", None, {"FLUX_ENDPOINT_WORKER_TOKEN": "secret"})
# Writes down what it is told, and answers with the lines of a file, one after another; the last again and again.
DRIVER = """
import signal, sys
told, answers = open(sys.argv[1], "a"), iter(open(sys.argv[2]).read().splitlines())
print(sys.stdin.readline(), end="", file=told, flush=True)
answer = None
for line in sys.stdin:
    print(line, end="", file=told, flush=True)
    answer = next(answers, answer)
    if answer == "die":
        sys.exit(3)
    if answer == "hang":
        signal.pause()
    print(answer, flush=True)
"""


class Diary:
    """What a fleet told about its workers; implements `WorkerEvents`."""

    def __init__(self):
        self.told = asyncio.Queue()

    async def starts(self, worker_id, reason):
        self.told.put_nowait(("starts", worker_id, reason))

    async def leaves(self, worker_id):
        self.told.put_nowait(("leaves", worker_id))

    async def left(self, worker_id):
        self.told.put_nowait(("left", worker_id))

    async def lost(self, worker_id):
        self.told.put_nowait(("lost", worker_id))

    async def refused(self, worker_id, reason):
        raise AssertionError("a refusal on one machine is none on another")

    async def next(self):
        return await asyncio.wait_for(self.told.get(), DEADLINE_S)


class Stage:
    """A fleet and its driver."""

    def __init__(self, folder):
        self._requests, self._answers = folder / "told", folder / "answers"
        self._requests.touch()
        self.diary = Diary()
        command = [sys.executable, "-I", "-S", "-c", DRIVER, str(self._requests), str(self._answers)]
        self.fleet = RayFleet(SETTINGS, {}, self.diary, Backoff(0.01, 0.01), command)

    def answer(self, *answers):
        self._answers.write_text("".join(f"{each if isinstance(each, str) else each.to_json()}\n" for each in answers))

    def lines(self):
        return self._requests.read_text().splitlines()

    def requests(self):
        return [FleetRequest.from_json(line) for line in self.lines() if "count" in json.loads(line)]


@pytest.fixture
async def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    await stage.fleet.stop()


def placed(worker_id, host="h1", last_end=""):
    return PlacedWorker(host, worker_id, 7, 0, last_end, None)


async def until(question):
    """The answer, as soon as it is true."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if answer := question():
                return answer
            await asyncio.sleep(0)


async def test_who_is_there_is_looked_at_before_anything_is_changed(stage):
    stage.answer(FleetReport({"gpu-0": placed("w0"), "gpu-1": None}))
    await stage.fleet.scale(5)
    await stage.fleet.start()
    assert await stage.diary.next() == ("starts", "w0", "")
    assert DriverSettings.from_json(stage.lines()[0]) == SETTINGS
    assert stage.requests()[0] == FleetRequest()
    assert [worker.worker_id for worker in await stage.fleet.list()] == ["w0"]
    await stage.fleet.scale(2, ["w0"])
    await until(lambda: FleetRequest(2, frozenset({"w0"})) in stage.requests())


async def test_ends_that_a_host_has_seen_are_told_and_those_that_nobody_saw_are_not(stage):
    stage.answer(
        FleetReport({"gpu-0": placed("w0"), "gpu-1": placed("w1"), "gpu-2": placed("w2"), "gpu-3": placed("w3")}),
        FleetReport(
            {
                "gpu-0": placed("w4", last_end="signal SIGKILL"),  # died
                "gpu-1": placed("w5"),  # was asked to be restarted
                "gpu-2": placed("w6", host="h2"),  # its machine was lost, or cut off
            },
            left=["w3"],
        ),
    )
    await stage.fleet.start()
    assert [await stage.diary.next() for _ in range(4)] == [("starts", f"w{number}", "") for number in range(4)]
    await stage.fleet.scale(3)
    assert [await stage.diary.next() for _ in range(7)] == [
        ("leaves", "w3"),
        ("left", "w3"),
        ("lost", "w0"),
        ("starts", "w4", "the worker before it died: signal SIGKILL"),
        ("left", "w1"),
        ("starts", "w5", ""),
        ("starts", "w6", ""),
    ]


async def test_a_worker_that_hangs_is_replaced_once_and_told_as_lost(stage):
    stage.answer(FleetReport({"gpu-0": placed("w0")}), FleetReport({"gpu-0": None}, lost=["w0"]))
    await stage.fleet.start()
    await stage.diary.next()
    await stage.fleet.replace("of somebody else", "it hangs")
    await stage.fleet.replace("w0", "it hangs")
    assert await stage.diary.next() == ("lost", "w0")
    await stage.fleet.restart("w9")
    await until(lambda: any(request.restart for request in stage.requests()))
    assert [sorted(request.replace) for request in stage.requests()] == [[], ["w0"], []]


async def test_a_driver_that_dies_is_started_again_and_who_was_there_is_known(stage):
    stage.answer(FleetReport({"gpu-0": placed("w0")}), "die")
    await stage.fleet.start()
    await stage.diary.next()
    await stage.fleet.scale(1)
    await until(lambda: len(stage.lines()) >= 4)
    # The second one looks first, too.
    assert stage.requests()[2] == FleetRequest()
    assert [worker.worker_id for worker in await stage.fleet.list()] == ["w0"]
    assert stage.diary.told.empty()


async def test_a_trouble_is_said_once_and_changes_nothing(stage, caplog):
    stage.answer(FleetReport({"gpu-0": placed("w0")}), FleetReport({}, trouble="no way there"))
    await stage.fleet.start()
    await stage.diary.next()
    for count in (1, 2, 3):
        await stage.fleet.scale(count)
        await until(lambda count=count: any(request.count == count for request in stage.requests()))
    assert caplog.text.count("no way there") == 1
    assert [worker.worker_id for worker in await stage.fleet.list()] == ["w0"]


async def test_stopping_does_not_wait_for_a_driver_that_hangs(stage, monkeypatch):
    monkeypatch.setattr("flux_endpoint.fleet.ray_fleet._STOP_S", 0.2)
    stage.answer("hang")
    await stage.fleet.start()
    await until(stage.requests)
    async with asyncio.timeout(DEADLINE_S):
        await stage.fleet.stop()


async def test_a_driver_that_cannot_be_started_is_tried_again(stage, caplog):
    fleet = RayFleet(SETTINGS, {}, stage.diary, Backoff(0.01, 0.01), ["/nowhere/at/all"])
    await fleet.start()
    await until(lambda: caplog.text.count("cannot be started") > 1)
    await fleet.stop()
