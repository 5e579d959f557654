"""A worker whose engine, device or gateway fails: what becomes of it and of its jobs."""

import asyncio

import pytest

from flux_endpoint.core.catalog import FLUX_SCHNELL
from flux_endpoint.core.errors import DeviceFailed, NonFinite, NotFound, OutOfMemory, Unauthenticated
from flux_endpoint.engine.credentials import PictureSigner
from flux_endpoint.worker.connection import NoAnswer
from tests.certificates import Authority
from tests.unit.gateway_in_memory import DEADLINE_S, PNG, GatewayInMemory, SteppedEngine, job, working

pytestmark = pytest.mark.anyio


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


class SigningEngine(SteppedEngine):
    """Signs what was cut on the way."""

    def __init__(self, signer):
        super().__init__(100)
        self.signer = signer

    def generate(self, request, *sources):
        encode = yield from super().generate(request, *sources)
        return lambda: self.signer.sign(encode().data[:-20], request.image_format)


async def test_a_picture_that_cannot_be_signed_fails_its_job(tmp_path):
    gateway, engine = GatewayInMemory(), SigningEngine(PictureSigner(*Authority.made(tmp_path).issue()))
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        name, result = await gateway.next(gateway.results)
        assert (name, list(result)) == ("a", ["error"])
        assert result["error"].startswith("image generation failed: the picture could not be signed: ")


async def test_a_device_that_fails_ends_its_worker_and_its_jobs_are_for_others():
    gateway, engine = GatewayInMemory(), SteppedEngine()
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine, slots=2) as (_, running):
        await engine.wait_stepping()
        gateway.jobs.put_nowait(job("b"))
        engine.error = DeviceFailed("cuda:0 has failed: CUDA error: an illegal memory access was encountered")
        engine.permits.release(1)
        with pytest.raises(DeviceFailed, match="illegal memory access"):
            await asyncio.wait_for(running, DEADLINE_S)
    assert gateway.last_words == [str(engine.error)]
    assert gateway.results.empty(), "no word of a job: the gateway takes back what a worker holds that is unwell"


async def test_a_gateway_that_does_not_hear_the_last_word_does_not_hold_a_worker_up():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.trouble("ping", *[NoAnswer("cut")] * 10_000)
    engine.error = DeviceFailed("gone")
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine) as (_, running):
        with pytest.raises(DeviceFailed, match="gone"):
            await asyncio.wait_for(running, DEADLINE_S)


async def test_out_of_memory_once_fails_a_job_and_twice_in_a_row_ends_the_worker():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    async with working(gateway, engine) as (_, running):
        for name in "ab":
            # A picture in between says that the device is well.
            engine.error = OutOfMemory("cuda:0 has too little memory for this picture")
            gateway.jobs.put_nowait(job(name))
            text = "image generation failed: cuda:0 has too little memory for this picture"
            assert await gateway.next(gateway.results) == (name, {"error": text})
            engine.error = None
            gateway.jobs.put_nowait(job(f"{name}-drawn"))
            assert (await gateway.next(gateway.results))[1] == ("image/png", PNG, [])
        engine.error = OutOfMemory("cuda:0 has too little memory for this picture")
        gateway.jobs.put_nowait(job("c"))
        assert (await gateway.next(gateway.results))[0] == "c"
        gateway.jobs.put_nowait(job("d"))
        with pytest.raises(DeviceFailed, match="out of memory 2 times in a row"):
            await asyncio.wait_for(running, DEADLINE_S)
    assert gateway.results.empty()


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
