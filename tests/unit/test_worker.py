"""The worker against a gateway in memory and an engine that steps when the test says so."""

import asyncio
import contextlib
import json
import threading

import pytest

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import NonFinite, NotFound, Unauthenticated
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG as PNG_FORMAT
from flux_endpoint.engine.protocol import EncodedImage, ModelInfo, StepDone
from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import NoAnswer, Reply
from flux_endpoint.worker.loop import Worker
from flux_endpoint.worker.runner import EngineThread

pytestmark = pytest.mark.anyio

DEADLINE_S = 30
DEV = FLUX_DEV.endpoint_id
PNG = b"\x89PNG\r\n\x1a\npicture"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def job(job_id, steps=2, lease_ms=30_000, endpoint_id=DEV, **changes):
    request = GenerationRequest("a lake", "", 256, 256, steps, 7.5, 2.0, 42, PNG_FORMAT)
    return {
        "id": job_id,
        "input": request.to_input() | changes,
        "endpointId": endpoint_id,
        "claimToken": 3,
        "leaseMs": lease_ms,
    }


def reply(status, content):
    return Reply(status, json.dumps(content).encode())


class GatewayInMemory:
    """The other side of the wire; notes what it is told, and holds questions as the real one does."""

    def __init__(self):
        self.jobs = asyncio.Queue()
        self.stops = asyncio.Queue()
        self.results = asyncio.Queue()
        self.pings = asyncio.Queue()
        self.takes = asyncio.Queue()
        self.stop_questions = asyncio.Queue()
        self.troubles = {}
        self.not_held = []
        self.image_gate = asyncio.Event()
        self.image_gate.set()

    def trouble(self, operation, *answers):
        """What the next calls of an operation get instead of an answer: HTTP codes or exceptions."""
        self.troubles[operation] = list(answers)

    async def next(self, queue):
        return await asyncio.wait_for(queue.get(), DEADLINE_S)

    async def request(self, method, path, query, body, media_type, patience):
        """See `Connection.request`."""
        _, _, _, operation, worker_id, *job_id = path.split("/")
        assert worker_id == "w-1"
        if self.troubles.get(operation):
            trouble = self.troubles[operation].pop(0)
            if isinstance(trouble, Exception):
                raise trouble
            return reply(trouble, {"error": "as the test wants it"})
        if body is None:
            return await getattr(self, "on_" + operation.replace("-", "_"))(dict(query))
        assert query[:2] == [("claimToken", "3"), ("isStream", "false")]
        warnings = [value for name, value in query[2:] if name == "warning"]
        return await getattr(self, "on_" + operation.replace("-", "_"))(*job_id, media_type, body, warnings)

    async def on_job_take(self, query):
        self.takes.put_nowait(query["job_in_progress"])
        return reply(200, await self.jobs.get())

    async def on_job_done(self, job_id, media_type, body, warnings):
        if media_type == "application/json":
            self.results.put_nowait((job_id, json.loads(body)))
        else:
            await self.image_gate.wait()
            self.results.put_nowait((job_id, (media_type, body, warnings)))
        return reply(200, {})

    async def on_job_stream(self, job_id, media_type, body, warnings):
        return reply(200, {})

    async def on_job_stop(self, query):
        self.stop_questions.put_nowait(None)
        return reply(200, {"jobsToStop": [await self.stops.get()]})

    async def stop(self, job_id):
        """Tell the worker to stop a job; returns when it has heard."""
        await self.next(self.stop_questions)
        self.stops.put_nowait(job_id)
        await self.next(self.stop_questions)

    async def on_ping(self, query):
        self.pings.put_nowait(query.get("job_id", ""))
        return reply(200, {"jobsToStop": self.not_held})


class SteppedEngine:
    """Does one step for each permit."""

    info = ModelInfo("stepped", ModelFamily.DEV, "none")

    def __init__(self, permits=0, warnings=()):
        self.permits = threading.Semaphore(permits)
        self.stepping = threading.Event()
        self.closed = threading.Event()
        self.error = None
        self.warnings = warnings

    def load(self):
        pass

    def close(self):
        pass

    def generate(self, request):
        try:
            for step in range(1, request.num_inference_steps + 1):
                self.stepping.set()
                assert self.permits.acquire(timeout=DEADLINE_S)
                if self.error:
                    raise self.error
                yield StepDone(step, request.num_inference_steps)
        finally:
            self.closed.set()
        return EncodedImage(PNG, request.image_format, request.width, request.height, self.warnings)

    async def wait_stepping(self):
        assert await asyncio.to_thread(self.stepping.wait, DEADLINE_S)


@contextlib.asynccontextmanager
async def working(gateway, engine, sleeps=None):
    """A worker at work; leaves at the end of the block."""

    async def sleep(seconds):
        (sleeps if sleeps is not None else []).append(seconds)
        await asyncio.sleep(0)

    thread = EngineThread()
    leave = asyncio.Event()
    worker = Worker(Gateway(gateway, [DEV], "w-1", "none", sleep), {DEV: engine}, thread)
    task = asyncio.create_task(worker.run(leave))
    try:
        yield leave, task
    finally:
        leave.set()
        engine.permits.release(1_000)
        await asyncio.wait_for(asyncio.wait({task}), DEADLINE_S)
        assert await asyncio.to_thread(thread.close, DEADLINE_S)


async def test_a_job_is_drawn_and_its_picture_handed_in():
    gateway, engine = GatewayInMemory(), SteppedEngine(100, warnings=("the prompt was cut",))
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        assert await gateway.next(gateway.results) == ("a", ("image/png", PNG, ["the prompt was cut"]))


async def test_the_next_job_runs_while_the_last_picture_is_on_its_way():
    gateway, engine = GatewayInMemory(), SteppedEngine(2)
    gateway.image_gate.clear()
    gateway.jobs.put_nowait(job("a", steps=2))
    gateway.jobs.put_nowait(job("b", steps=2))
    async with working(gateway, engine):
        assert await gateway.next(gateway.takes) == "0"
        assert await gateway.next(gateway.takes) == "1"
        engine.stepping.clear()
        engine.permits.release(1)
        await engine.wait_stepping()
        assert gateway.results.empty()
        gateway.image_gate.set()
        assert (await gateway.next(gateway.results))[0] == "a"


async def test_no_third_picture_is_drawn_while_two_wait_to_be_handed_in():
    gateway, engine = GatewayInMemory(), SteppedEngine(1_000)
    gateway.image_gate.clear()
    for name in "abc":
        gateway.jobs.put_nowait(job(name))
    async with working(gateway, engine):
        await gateway.next(gateway.takes)
        await gateway.next(gateway.takes)
        assert gateway.jobs.qsize() >= 1
        gateway.image_gate.set()
        done = {(await gateway.next(gateway.results))[0] for _ in range(3)}
        assert done == {"a", "b", "c"}


async def test_a_stopped_job_reports_nothing_and_the_next_one_follows():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.jobs.put_nowait(job("a", steps=50))
    async with working(gateway, engine):
        await engine.wait_stepping()
        await gateway.stop("a")
        gateway.jobs.put_nowait(job("b", steps=1))
        # One permit ends the step of a; its 49 others are never taken.
        engine.permits.release(2)
        assert await gateway.next(gateway.results) == ("b", ("image/png", PNG, []))
        assert engine.closed.is_set()
        assert gateway.results.empty()


async def test_a_stop_that_overtakes_its_job_is_not_lost():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    async with working(gateway, engine):
        await gateway.stop("a")
        gateway.jobs.put_nowait(job("a"))
        gateway.jobs.put_nowait(job("b"))
        assert (await gateway.next(gateway.results))[0] == "b"


async def test_an_engine_that_fails_fails_its_job_only():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    engine.error = RuntimeError("out of memory\nand many more lines")
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        engine.permits.release(1)
        text = "image generation failed: RuntimeError: out of memory"
        assert await gateway.next(gateway.results) == ("a", {"error": text})
        engine.error = None
        engine.permits.release(100)
        gateway.jobs.put_nowait(job("b"))
        assert (await gateway.next(gateway.results))[1] == ("image/png", PNG, [])


async def test_numbers_that_are_none_fail_their_job_in_plain_words():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    engine.error = NonFinite("transformer")
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        job_id, result = await gateway.next(gateway.results)
    assert (job_id, list(result)) == ("a", ["error"])
    assert result["error"].startswith("image generation failed: the model's transformer produced NaN")


async def test_a_job_that_is_none_of_ours_fails():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.jobs.put_nowait(job("a", surprise=1))
    gateway.jobs.put_nowait(job("b", endpoint_id=FLUX_SCHNELL.endpoint_id))
    async with working(gateway, engine):
        results = dict([await gateway.next(gateway.results), await gateway.next(gateway.results)])
    assert "not a complete FLUX job" in results["a"]["error"]
    assert FLUX_SCHNELL.endpoint_id in results["b"]["error"]


async def test_a_gateway_that_is_away_is_waited_for():
    gateway, engine, sleeps = GatewayInMemory(), SteppedEngine(100), []
    gateway.trouble("job-take", NoAnswer("refused"), 503)
    gateway.trouble("job-done", NoAnswer("cut"), 502, 500, 429, 503, 503, 503)
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine, sleeps):
        assert (await gateway.next(gateway.results))[0] == "a"
    assert sleeps[:2] == [0.1, 0.2]
    assert sleeps[2:] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]


@pytest.mark.parametrize(
    ("trouble", "tries", "said"),
    [
        (503, 12, "HTTP 503: as the test wants it"),
        (502, 12, "HTTP 502: as the test wants it"),
        (429, 12, "HTTP 429: as the test wants it"),
        (500, 4, "HTTP 500: as the test wants it"),
        (NoAnswer("cut"), 12, "cut"),
    ],
)
async def test_a_picture_that_is_never_taken_fails_its_job_with_the_reason(trouble, tries, said):
    gateway, engine, sleeps = GatewayInMemory(), SteppedEngine(100), []
    gateway.trouble("job-done", *[trouble] * tries)
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine, sleeps):
        job_id, result = await gateway.next(gateway.results)
        gateway.jobs.put_nowait(job("b"))
        assert (await gateway.next(gateway.results))[0] == "b"
    assert job_id == "a"
    assert result == {"error": f"the gateway did not take the result in {tries} tries ({said})"}
    assert sorted(sleeps) == sleeps
    assert sum(sleeps) < 60


@pytest.mark.parametrize(("trouble", "tries"), [(503, 12), (500, 4)])
async def test_a_gateway_that_takes_no_report_at_all_does_not_hold_the_worker(trouble, tries, caplog):
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.trouble("job-done", *[trouble] * 2 * tries)
    gateway.jobs.put_nowait(job("a", lease_ms=30))
    async with working(gateway, engine):
        # Held until it is given up: first as busy, then as idle.
        assert await gateway.next(gateway.takes) == "0"
        while await gateway.next(gateway.pings):
            pass
        gateway.jobs.put_nowait(job("b"))
        assert (await gateway.next(gateway.results))[0] == "b"
    assert "job a: let go" in caplog.text
    assert gateway.results.empty()


async def test_a_lost_lease_drops_the_picture_and_the_worker_goes_on():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.trouble("job-done", 409)
    gateway.jobs.put_nowait(job("a"))
    gateway.jobs.put_nowait(job("b"))
    async with working(gateway, engine):
        assert (await gateway.next(gateway.results))[0] == "b"
    assert gateway.results.empty()


async def test_a_report_the_gateway_refuses_twice_is_dropped_and_the_worker_goes_on():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.trouble("job-done", 400, 400)
    gateway.jobs.put_nowait(job("a"))
    gateway.jobs.put_nowait(job("b"))
    async with working(gateway, engine):
        assert (await gateway.next(gateway.results))[0] == "b"


async def test_a_picture_the_gateway_refuses_fails_the_job():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.trouble("job-done", 400)
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        job_id, result = await gateway.next(gateway.results)
    assert job_id == "a"
    assert "as the test wants it" in result["error"]


@pytest.mark.parametrize(("code", "error"), [(401, Unauthenticated), (404, NotFound)])
@pytest.mark.parametrize("operation", ["job-take", "job-stop"])
async def test_a_worker_that_is_not_wanted_ends_with_the_reason(code, error, operation):
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.trouble(operation, code)
    async with working(gateway, engine) as (_, task):
        with pytest.raises(error, match="as the test wants it"):
            await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)


async def test_a_leaving_worker_gives_its_job_back_without_waiting_for_a_step():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine) as (leave, task):
        await engine.wait_stepping()
        leave.set()
        assert await gateway.next(gateway.results) == ("a", {"returned": True})
        # No permit was given: the step still runs.
        await asyncio.wait_for(task, DEADLINE_S)
        assert not engine.closed.is_set()


async def test_a_leaving_worker_hands_in_the_picture_that_is_on_its_way():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.image_gate.clear()
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine) as (leave, task):
        await gateway.next(gateway.takes)
        assert await gateway.next(gateway.takes) == "1"
        leave.set()
        gateway.image_gate.set()
        await asyncio.wait_for(task, DEADLINE_S)
    assert await gateway.next(gateway.results) == ("a", ("image/png", PNG, []))


async def test_the_lease_is_kept_while_a_step_takes_long():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.jobs.put_nowait(job("a", lease_ms=30))
    async with working(gateway, engine):
        await engine.wait_stepping()
        assert await gateway.next(gateway.pings) == "a"
        assert await gateway.next(gateway.pings) == "a"


async def test_a_job_that_a_ping_disowns_is_stopped():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.not_held = ["a"]
    gateway.jobs.put_nowait(job("a", lease_ms=30))
    async with working(gateway, engine):
        await gateway.next(gateway.pings)
        await gateway.next(gateway.pings)
        gateway.jobs.put_nowait(job("b", steps=1))
        engine.permits.release(2)
        assert (await gateway.next(gateway.results))[0] == "b"


async def test_prompts_do_not_reach_the_log(caplog):
    caplog.set_level("INFO")
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.jobs.put_nowait(job("a", prompt="a very private lake"))
    async with working(gateway, engine):
        await gateway.next(gateway.results)
    assert "job a done: 256x256, 2 steps" in caplog.text
    assert "private" not in caplog.text
