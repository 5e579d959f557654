"""A worker that gives its memory back when it is asked to, or has nothing to do."""

import asyncio
import threading

import pytest

from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import Reply
from flux_endpoint.worker.runner import EngineThread
from flux_endpoint.worker.unload import unload_when_asked, unload_when_idle

pytestmark = pytest.mark.anyio


class Line:
    """A gateway that answers as it is told, and keeps what it was asked."""

    def __init__(self, *bodies):
        self.bodies = list(bodies)
        self.queries = []

    async def request(self, method, path, query, body, media_type, patience):
        """See `Connection.request`."""
        self.queries.append(dict(query))
        return Reply(200, self.bodies.pop(0))


class Listening(FakeEngine):
    """Keeps for how long it must have been idle."""

    def __init__(self):
        super().__init__(FLUX_DEV)
        self.releases = []

    def release(self, idle_s=0):
        self.releases.append(idle_s)


async def test_the_gateway_asks_on_the_channel_of_stops():
    asked = []
    line = Line(b'{"jobsToStop": ["a"], "unload": true}', b'{"jobsToStop": ["b"]}')
    gateway = Gateway(line, ["dev"], "w-1", "cpu", on_unload=lambda: asked.append(True))
    assert await gateway.stops() == ["a"]
    assert asked == [True]
    assert await gateway.stops() == ["b"]
    assert asked == [True]
    assert line.queries == [{"unload": "1"}] * 2


async def test_who_cannot_unload_does_not_say_so():
    line = Line(b'{"jobsToStop": []}')
    assert await Gateway(line, ["dev"], "w-1", "cpu").stops() == []
    assert line.queries == [{}]


async def test_how_models_are_kept_is_told_with_pings():
    memory = ["full", ""]
    line = Line(*[b'{"jobsToStop": []}'] * 2)
    gateway = Gateway(line, ["dev"], "w-1", "cpu", memory=lambda: memory.pop(0))
    await gateway.ping(["a"])
    await gateway.ping([])
    assert line.queries == [{"job_id": "a", "memory": "full"}, {}]


async def test_an_idle_worker_looks_every_few_seconds():
    engine, thread, naps = Listening(), EngineThread(), []

    async def sleep(seconds):
        naps.append(seconds)
        if len(naps) > 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await unload_when_idle({"dev": engine}, thread, 60, sleep)
    assert naps == [5, 5, 5]
    assert engine.releases == [60, 60]
    assert thread.close(5)


async def test_every_request_is_heard_also_after_one_that_failed():
    engine, thread, asked = Failing(), EngineThread(), asyncio.Event()
    task = asyncio.create_task(unload_when_asked({"dev": engine}, thread, asked))
    for _ in range(2):
        asked.set()
        assert await asyncio.to_thread(engine.was_asked.acquire, timeout=30)
    task.cancel()
    assert thread.close(5)


class Failing(FakeEngine):
    """Cannot free its memory."""

    def __init__(self):
        super().__init__(FLUX_DEV)
        self.was_asked = threading.Semaphore(0)

    def release(self, idle_s=0):
        self.was_asked.release()
        raise RuntimeError("as the test wants it")
