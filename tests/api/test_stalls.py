"""No body that is allowed keeps the event loop from everybody else, in any operation that takes one."""

import asyncio
import contextlib
import functools
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# Loaded with the first message of an agent.
import flux_endpoint.api.dialects.mcp.server  # noqa: F401
from flux_endpoint.api.app import ROUTES
from flux_endpoint.service.custom import CustomEndpoint
from tests.api.conftest import DEV, ECHO, ENDPOINTS, PNG_BYTES, Gateway, HandWorker, ThirdPartyWorker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

# Of processor time, and not on the clock: a machine that is busy with other things has not stalled. What blocks it
# without computing (a lock, the disk) shows on the clock, less what threads waited for a processor meanwhile. A slow
# machine has as long as it needs to read a fifth of the largest body, which the loop must never do.
LIMIT_S = 0.1
YARDSTICK = b"[" + b"[]," * (4 * 2**20 // 3) + b"0]"
CLOCK_LIMIT_S = 1.0
TICK_S = 0.002
RUN_BYTES, SYNC_BYTES, RESULT_BYTES, CHUNK_BYTES = 10 * 2**20, 20 * 2**20, 20 * 2**20, 2**20
DIALECT_BYTES = 2**20
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
SCHEMA = {"properties": {"a": {"type": "array", "items": {"minimum": 0}}}}
MEASURED = "/v2/measured"


@pytest.fixture(autouse=True)
def endpoint_with_a_schema(monkeypatch):
    endpoint = CustomEndpoint("measured", "Measured", input_schema=SCHEMA)
    monkeypatch.setitem(ENDPOINTS, "measured", endpoint)


@pytest.fixture(autouse=True, scope="module")
def nothing_old_to_collect():
    """As in a server, which freezes at the start all that stays to its end; here that is what other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_of_the_test_before_to_collect(nothing_old_to_collect):
    gc.collect()


@functools.cache
def limit_s() -> float:
    began_s = time.thread_time()
    json.loads(YARDSTICK)
    return max(LIMIT_S, time.thread_time() - began_s)


def waited_s() -> float:
    """For how long the threads of this process have waited for a processor, where the system tells (Linux)."""
    waited_ns = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        # A thread may just have ended.
        with contextlib.suppress(OSError):
            waited_ns += int(file.read_bytes().split()[1])
    return waited_ns / 1e9


@dataclass
class Stall:
    """The longest time between two turns of a task that always wants one."""

    cpu_s: float = 0.0
    clock_s: float = 0.0


@asynccontextmanager
async def no_stall(what: str = "") -> AsyncIterator[None]:
    """Fails when the event loop stood still inside the block."""
    stall = Stall()

    async def tick() -> None:
        while True:
            before_s = waited_s()
            cpu_s, clock_s = time.thread_time(), time.monotonic()
            await asyncio.sleep(TICK_S)
            stall.cpu_s = max(stall.cpu_s, time.thread_time() - cpu_s)
            took_s = time.monotonic() - clock_s
            stall.clock_s = max(stall.clock_s, took_s - max(0.0, waited_s() - before_s))

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(TICK_S)
    try:
        yield
        await asyncio.sleep(TICK_S)
    finally:
        ticking.cancel()
    assert stall.cpu_s < limit_s(), (what, stall)
    assert stall.clock_s < CLOCK_LIMIT_S, (what, stall)


SHAPES = {
    "lists": b"[],",
    "objects": b'{"a":{}},',
    "integers": b"0,",
    "fractions": b"0.1234567,",
    "long integers": b"9" * 4_300 + b",",
    "keys": b"",
    "text": b"",
    "escapes": b"",
}


def value(shape: str, size: int) -> bytes:
    """A JSON value of about so many bytes."""
    if shape == "keys":
        return b"[{" + b",".join(b'"%x":0' % number for number in range(size // 11)) + b"}]"
    if shape in ("text", "escapes"):
        unit = b"x" if shape == "text" else b"\\u00e4"
        return b'["' + unit * ((size - 4) // len(unit)) + b'"]'
    unit = SHAPES[shape]
    return b"[" + (unit * (size // len(unit)))[:-1] + b"]"


def submission(shape: str, limit: int) -> bytes:
    """A body of `/run`, as large as may be."""
    head, tail = b'{"input":{"prompt":"a lake","a":', b"}}"
    return head + value(shape, limit - len(head) - len(tail) - 2) + tail


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_input_with_a_schema_of_any_shape(gateway: Gateway, shape: str) -> None:
    body = submission(shape, RUN_BYTES)
    async with no_stall():
        reply = await gateway.client.post(f"{MEASURED}/run", content=body)
    assert reply.status_code == 200, reply.text[:300]


@pytest.mark.parametrize("endpoint", [DEV, MEASURED])
@pytest.mark.parametrize(
    ("operation", "limit", "opening", "closing"),
    [
        ("runsync?wait=1000", SYNC_BYTES, b"", b""),
        ("estimate", RUN_BYTES, b"", b""),
        ("batch", RUN_BYTES, b"[", b"]"),
        ("batch/{batch}/requests", RUN_BYTES, b'{"requests":[', b"]}"),
    ],
)
async def test_what_a_client_sends(gateway, endpoint, operation, limit, opening, closing):
    batch = (await gateway.post(f"{endpoint}/batch", [])).json()["id"]
    body = opening + submission("lists", limit - len(opening) - len(closing)) + closing
    async with no_stall():
        reply = await gateway.client.post(f"{endpoint}/{operation.format(batch=batch)}", content=body)
    assert reply.status_code == 200, reply.text[:300]


async def test_five_thousand_requests_of_a_batch(gateway: Gateway) -> None:
    one = b'{"input":{"prompt":"' + b"x" * 1_900 + b'"},"webhook":"https://hook.example/"}'
    body = b"[" + b",".join([one] * 5_000) + b"]"
    async with no_stall():
        batch = (await gateway.client.post(f"{DEV}/batch", content=body)).json()["id"]
        assert (await gateway.client.post(f"{DEV}/batch/{batch}/finalize")).json()["requestTotal"] == 5_000
        await gateway.get(f"{DEV}/batch/{batch}/requests?limit=100")


async def test_the_life_of_a_job_with_the_largest_input_and_output(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=ECHO)
    sent = submission("objects", SYNC_BYTES)
    async with no_stall():
        reply = await gateway.client.post(f"{ECHO}/runsync?wait=1000", content=sent)
        job_id = reply.json()["id"]
        taken = await worker.get("job-take")
    # It is what was sent, only not taken apart in between.
    assert taken.content.count(b'{"a":{}}') == sent.count(b'{"a":{}}')
    assert taken.json()["input"]["prompt"] == "a lake"
    output = b'{"output":' + value("objects", RESULT_BYTES - 20) + b"}"
    async with no_stall():
        done = await worker.post("job-done", job_id, output)
        assert done.status_code == 200, done.text[:300]
    for path in (f"status/{job_id}", f"events/{job_id}", f"stream/{job_id}", "requests", "health"):
        async with no_stall():
            told = await gateway.get(f"{ECHO}/{path}")
        assert told.status_code == 200, path
    told = await gateway.get(f"{ECHO}/status/{job_id}")
    assert told.json()["output"][0] == {"a": {}}


async def test_a_webhook_with_the_largest_input_and_output(gateway: Gateway) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=ECHO)
    sent = submission("lists", SYNC_BYTES - 100)[:-1] + b',"webhook":"https://hook.example/"}'
    reply = await gateway.client.post(f"{ECHO}/runsync?wait=1000", content=sent)
    assert reply.status_code == 200, reply.text[:300]
    taken = await worker.get("job-take")
    async with no_stall():
        await worker.post("job-done", reply.json()["id"], b'{"output":' + value("lists", RESULT_BYTES - 20) + b"}")
        await gateway.send_due()
    assert taken.status_code == 200
    assert gateway.sender.sent[-1].json["input"]["a"][0] == []


@pytest.mark.parametrize("endpoint", [DEV, ECHO])
async def test_what_a_worker_sends(gateway: Gateway, endpoint: str) -> None:
    worker = ThirdPartyWorker(gateway, endpoint=endpoint)
    for operation, limit, fields in (
        ("job-stream", CHUNK_BYTES, b'"output":'),
        ("job-done", RESULT_BYTES, b'"status":"IN_PROGRESS","output":'),
        ("job-done", RESULT_BYTES, b'"error":'),
        ("job-done", RESULT_BYTES, b'"error":"x","output":'),
        ("job-done", RESULT_BYTES, b'"other":'),
    ):
        await gateway.submit(endpoint)
        job_id = (await worker.take())["id"]
        body = b"{" + fields + value("lists", limit - 50) + b"}"
        async with no_stall():
            reply = await worker.post(operation, job_id, body, is_stream=operation == "job-stream")
            await gateway.get(f"{endpoint}/status/{job_id}")
            await gateway.get(f"{endpoint}/stream/{job_id}?wait=1000")
        assert reply.status_code == (400 if b"IN_PROGRESS" in fields else 200), reply.text[:300]


async def test_the_largest_picture(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit(image_format="png")
    job = await worker.take()
    assert job is not None
    data = PNG_BYTES + b"x" * (32 * 2**20 - len(PNG_BYTES))
    async with no_stall():
        assert (await worker.deliver(job, data)).status_code == 200


async def test_a_schema_that_is_not_met_at_the_very_end(gateway: Gateway) -> None:
    body = b'{"input":{"a":[' + b"0," * (5 * 2**20 - 100) + b"-1]}}"
    async with no_stall():
        reply = await gateway.client.post(f"{MEASURED}/run", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].endswith("must be at least 0")


async def test_the_document_and_every_page(gateway: Gateway) -> None:
    async with no_stall():
        for path in ("/openapi.json", "/docs", "/", "/usage", "/playground/swagger-ui-bundle.js"):
            assert (await gateway.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "limit", "fields", "status_code"),
    [
        # Refused when it has been read: nobody draws here.
        ("/v1/images/generations", DIALECT_BYTES, b'"prompt":"a lake","n":99,', 400),
        ("/hf/flux-dev", DIALECT_BYTES, b'"inputs":"a lake","parameters":{"width":1},', 400),
        ("/v1/flux-dev", DIALECT_BYTES, b'"prompt":"a lake",', 200),
        ("/v1/predictions", DIALECT_BYTES, b'"input":{"prompt":"a lake"},', 422),
        ("/fal/run/fal-ai/flux/dev", DIALECT_BYTES, b'"prompt":"a lake","num_images":99,', 422),
        ("/fal/queue/fal-ai/flux/dev", DIALECT_BYTES, b'"prompt":"a lake",', 200),
        ("/sdapi/v1/txt2img", DIALECT_BYTES, b'"prompt":"a lake","width":1,', 422),
        ("/sdapi/v1/img2img", DIALECT_BYTES, b'"prompt":"a lake",', 422),
        ("/fal/run/fal-ai/flux/dev/image-to-image", DIALECT_BYTES, b'"prompt":"a lake",', 422),
        ("/fal/queue/fal-ai/flux/dev/image-to-image", DIALECT_BYTES, b'"prompt":"a lake",', 422),
        ("/sdapi/v1/options", DIALECT_BYTES, b'"samples_save":true,', 200),
        ("/sdapi/v1/png-info", 16 * DIALECT_BYTES, b'"image":"AAAA",', 422),
        ("/graphql", 2**16, b'"query":"{ myself { id } }",', 200),
        ("/mcp", 2**16, b'"jsonrpc":"2.0","id":1,"method":"tools/list",', 200),
    ],
)
async def test_what_clients_of_other_dialects_send(
    gateway: Gateway, path: str, limit: int, fields: bytes, status_code: int
) -> None:
    head, tail = b"{" + fields + b'"a":', b"}"
    # The two that take longest to read are enough of what is much larger than the others.
    for shape in SHAPES if limit <= DIALECT_BYTES else ("lists", "objects"):
        body = head + value(shape, limit - len(head) - len(tail) - 2) + tail
        async with no_stall(shape):
            reply = await gateway.client.post(path, content=body, headers=HEADERS)
        assert reply.status_code == status_code, (shape, reply.text[:300])


async def test_the_largest_form(gateway: Gateway) -> None:
    files = [(name, (name, b"x" * (20 * 2**20 - 2_000), "image/png")) for name in ("image", "mask")]
    form = gateway.client.build_request("POST", "/v1/images/edits", data={"prompt": "a lake"}, files=files)
    # Made here once: what the client takes for it is not the server's.
    body = form.read()
    async with no_stall():
        reply = await gateway.client.post("/v1/images/edits", content=body, headers=dict(form.headers))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "image")


def test_every_operation_with_a_body_is_measured_here() -> None:
    taking = {
        route.path.removeprefix("/v2/{endpoint_id}/").removeprefix("/v2/{endpoint_ids}/").partition("/{worker_id}")[0]
        for route in ROUTES
        if "POST" in route.methods or "PUT" in route.methods
    }
    # Those on the right read no body; `PUT batch/{batch_id}` and `finish` take no more than is small.
    assert taking == {"run", "runsync", "estimate", "batch", "batch/{batch_id}/requests", "job-done", "job-stream"} | {
        "/v1/images/generations",
        "/hf/{model}",
        "/v1/{model}",
        "/v1/models/{owner}/{name}/predictions",
        "/v1/predictions",
        "/v1/predictions/{prediction_id}/cancel",
        "/v1/files",
        "/fal/run/{owner}/{app}/{name}",
        "/fal/queue/{owner}/{app}/{name}",
        "/fal/run/{owner}/{app}/{name}/image-to-image",
        "/fal/queue/{owner}/{app}/{name}/image-to-image",
        "/sdapi/v1/txt2img",
        "/sdapi/v1/img2img",
        "/v1/images/edits",
        "/sdapi/v1/options",
        "/sdapi/v1/png-info",
        "/graphql",
        "/mcp",
        # The same as the first of them.
        "/fal/run/{owner}/{app}/{name}/stream",
        "/fal/run/{owner}/{app}",
        "/fal/run/{owner}/{app}/{name}/{mode}",
        "/fal/queue/{owner}/{app}",
        "/fal/queue/{owner}/{app}/{name}/{mode}",
        "/fal/queue/{owner}/{app}/requests/{request_id}/cancel",
        # Of the endpoint that a header names.
        "/v2/flash/run",
        "/v2/flash/runsync",
        "/v2/flash/status/{job_id}",
        "/v2/flash/stream/{job_id}",
        "/v2/flash/cancel/{job_id}",
        "/v2/flash/retry/{job_id}",
        "/fal/rest/storage/upload/{kind}",
        "/fal/proxy",
        "/sdapi/v1/interrupt",
        "/sdapi/v1/skip",
        "/sdapi/v1/refresh-checkpoints",
        "/v1/images/variations",
        "/v2/gpu/release",
        "status/{job_id}",
        "status-sync/{job_id}",
        "stream/{job_id}",
        "cancel/{job_id}",
        "retry/{job_id}",
        "finish/{job_id}",
        "purge-queue",
        "batch/{batch_id}",
        "batch/{batch_id}/finalize",
        "batch/{batch_id}/cancel",
    }
