"""A gateway in memory, an engine that steps when the test says so, and a worker between them."""

import asyncio
import contextlib
import json
import threading
import time

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG as PNG_FORMAT
from flux_endpoint.engine.protocol import EncodedImage, ModelInfo, StepDone
from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import Reply
from flux_endpoint.worker.loop import Worker
from flux_endpoint.worker.runner import EngineThread

DEADLINE_S = 30
DEV = FLUX_DEV.endpoint_id
PNG = b"\x89PNG\r\n\x1a\npicture"


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
        self.rooms = []
        self.stop_questions = asyncio.Queue()
        self.troubles = {}
        self.not_held = []
        self.last_words = []
        self.goodbyes = 0
        self.image_gate = asyncio.Event()
        self.image_gate.set()
        self.images_came = asyncio.Queue()
        self.sizes = None
        self.sources = {}
        self.loras = {}
        self.loras_asked_for = []

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
        self.sizes = dict(query).get("sizes")
        return await getattr(self, "on_" + operation.replace("-", "_"))(*job_id, media_type, body, warnings)

    async def save(self, path, query, file, patience):
        """See `Connection.save`."""
        answer = await self.request("GET", path, query, None, None, patience)
        if answer.status != 200:
            return answer
        await asyncio.to_thread(file.write_bytes, answer.body)
        return Reply(200, b"")

    async def on_job_take(self, query):
        self.takes.put_nowait(query["job_in_progress"])
        self.rooms.append((query.get("atMost"), query.get("holdMs")))
        try:
            async with asyncio.timeout(int(query["holdMs"]) / 1_000 if "holdMs" in query else None):
                return reply(200, await self.jobs.get())
        except TimeoutError:
            return Reply(204, b"")

    async def on_job_done(self, job_id, media_type, body, warnings):
        if media_type == "application/json":
            self.results.put_nowait((job_id, json.loads(body)))
        else:
            self.images_came.put_nowait(job_id)
            await self.image_gate.wait()
            self.results.put_nowait((job_id, (media_type, body, warnings)))
        return reply(200, {})

    async def on_job_source(self, query):
        assert query["claimToken"] == "3"
        return Reply(200, self.sources[query["sha256"]])

    async def on_job_lora(self, query):
        assert query["claimToken"] == "3"
        self.loras_asked_for.append(query["sha256"])
        return Reply(200, self.loras[query["sha256"]])

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
        if query.get("status") == "leaving":
            self.goodbyes += 1
            return reply(200, {})
        if query.get("status") == "unhealthy":
            self.last_words.append(query["reason"])
            return reply(200, {})
        self.pings.put_nowait(query.get("job_id", ""))
        return reply(200, {"jobsToStop": self.not_held})


class SteppedEngine:
    """Does one step for each permit."""

    info = ModelInfo("stepped", ModelFamily.DEV, "none")

    def __init__(self, permits=0, warnings=(), latents=b""):
        self.permits = threading.Semaphore(permits)
        self.stepping = threading.Event()
        self.closed = threading.Event()
        self.error = None
        self.warnings = warnings
        self.latents = latents
        self.sources = {}
        self.steps = 0

    def load(self):
        pass

    def close(self):
        pass

    def generate(self, request, sources):
        self.sources = sources
        try:
            for step in range(1, request.steps_to_draw + 1):
                self.stepping.set()
                assert self.permits.acquire(timeout=DEADLINE_S)
                if self.error:
                    raise self.error
                self.steps += 1
                yield StepDone(step, request.steps_to_draw)
        finally:
            self.closed.set()
        latents = self.latents if request.stop_after else b""
        size = request.width, request.height
        return lambda: EncodedImage(PNG, request.image_format, *size, self.warnings, latents=latents)

    async def wait_stepping(self):
        assert await asyncio.to_thread(self.stepping.wait, DEADLINE_S)


@contextlib.asynccontextmanager
async def working(gateway, engine, sleeps=None, slots=1, monotonic_s=time.perf_counter, kept_loras=None):
    """A worker at work on the dev endpoint; leaves at the end of the block."""

    async def sleep(seconds):
        (sleeps if sleeps is not None else []).append(seconds)
        await asyncio.sleep(0)

    thread = EngineThread(slots, monotonic_s)
    leave = asyncio.Event()
    worker = Worker(Gateway(gateway, [DEV], "w-1", "none", sleep), {DEV: engine}, thread, kept_loras=kept_loras)
    task = asyncio.create_task(worker.run(leave))
    try:
        yield leave, task
    finally:
        leave.set()
        engine.permits.release(1_000)
        await asyncio.wait_for(asyncio.wait({task}), DEADLINE_S)
        assert await asyncio.to_thread(thread.close, DEADLINE_S)
