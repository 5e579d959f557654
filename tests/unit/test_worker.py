"""The worker against a gateway in memory and an engine that steps when the test says so."""

import asyncio
import hashlib

import pytest

from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.worker.connection import NoAnswer
from tests.unit.gateway_in_memory import DEADLINE_S, PNG, GatewayInMemory, SteppedEngine, job, working

pytestmark = pytest.mark.anyio


async def test_a_job_is_drawn_and_its_picture_handed_in():
    gateway, engine = GatewayInMemory(), SteppedEngine(100, warnings=("the prompt was cut",))
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine):
        assert await gateway.next(gateway.results) == ("a", ("image/png", PNG, ["the prompt was cut"]))


async def test_the_pictures_of_one_job_are_handed_in_together():
    gateway, engine = GatewayInMemory(), SteppedEngine(100, warnings=("the prompt was cut",))
    gateway.jobs.put_nowait(job("a", num_images=3))
    async with working(gateway, engine):
        assert await gateway.next(gateway.results) == ("a", ("image/png", 3 * PNG, ["the prompt was cut"]))
        assert gateway.sizes == f"{len(PNG)},{len(PNG)},{len(PNG)}"


def drawn_from(*files, **changes):
    """A job that draws from these files, and they by their hashes."""
    sources = {hashlib.sha256(file).hexdigest(): file for file in files}
    pictures = [{"key": "k", "sha256": sha256, "width": 256, "height": 256} for sha256 in sources]
    fields = dict(zip(("image", "mask"), [*pictures, None], strict=False)) | {"strength": 0.5}
    return job("a", **fields, **changes), sources


def drawn_with(*files):
    """A job that is drawn with these files as LoRAs, and they by their hashes."""
    files = {hashlib.sha256(file).hexdigest(): file for file in files}
    loras = [{"path": "owner/a", "scale": 1.0, "sha256": one, "is_fetched": True} for one in files]
    return job("a", loras=[*loras, {"path": "film", "scale": 1.0, "sha256": "0" * 64}]), files


async def test_loras_that_were_fetched_are_kept_before_the_first_step_and_asked_for_once(tmp_path):
    gateway, engine, kept = GatewayInMemory(), SteppedEngine(100), KeptLoras(tmp_path / "loras", 1_000)
    one, gateway.loras = drawn_with(b"a film", b"an oil")
    gateway.trouble("job-lora", 503, NoAnswer("gone"))
    for job_id in ("a", "b"):
        gateway.jobs.put_nowait({**one, "id": job_id})
    async with working(gateway, engine, kept_loras=kept):
        for _ in range(2):
            assert (await gateway.next(gateway.results))[1][1] == PNG
    assert sorted(gateway.loras_asked_for) == sorted(gateway.loras)
    for sha256, data in gateway.loras.items():
        assert kept.file(sha256).read_bytes() == data
    assert len(list((tmp_path / "loras").iterdir())) == 2


@pytest.mark.parametrize(
    ("trouble", "text"),
    [((404,), "does not know this: as the test wants it"), ((), "another file than the LoRA 'owner/a' of the job")],
)
async def test_a_job_whose_lora_cannot_be_had_fails(tmp_path, trouble, text):
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    one, files = drawn_with(b"a film")
    gateway.loras = dict.fromkeys(files, b"another")
    gateway.trouble("job-lora", *trouble)
    gateway.jobs.put_nowait(one)
    async with working(gateway, engine, kept_loras=KeptLoras(tmp_path / "loras", 1_000)):
        assert text in (await gateway.next(gateway.results))[1]["error"]
    assert list((tmp_path / "loras").iterdir()) == []


async def test_a_job_gets_the_pictures_that_it_is_drawn_from_and_draws_the_steps_that_are_left():
    gateway, engine = GatewayInMemory(), SteppedEngine(2)
    one, gateway.sources = drawn_from(b"a fox", b"its tail", steps=4)
    # A gateway that is away for a moment.
    gateway.trouble("job-source", 503, NoAnswer("gone"))
    gateway.jobs.put_nowait(one)
    async with working(gateway, engine):
        assert (await gateway.next(gateway.results))[1][0] == "image/png"
    assert engine.sources == gateway.sources


async def test_a_draft_is_handed_in_with_its_latents_and_finished_from_them():
    gateway, engine = GatewayInMemory(), SteppedEngine(100, latents=b"where it stopped")
    gateway.jobs.put_nowait(job("a", steps=4, stop_after=1, num_images=2))
    async with working(gateway, engine):
        _, (_, body, _) = await gateway.next(gateway.results)
        assert (body, gateway.sizes) == (2 * PNG + 2 * b"where it stopped", f"{len(PNG)},{len(PNG)},16,16")
        assert engine.steps == 2
        sha256 = hashlib.sha256(b"where it stopped").hexdigest()
        gateway.sources = {sha256: b"where it stopped"}
        gateway.jobs.put_nowait(job("b", steps=4, draft={"key": "k", "sha256": sha256, "steps": 1}))
        assert (await gateway.next(gateway.results))[0] == "b"
    assert (engine.sources, engine.steps) == (gateway.sources, 2 + 3)


async def test_a_job_whose_picture_is_gone_or_another_fails():
    for trouble, files, problem in (
        ([404], None, "the gateway does not know this: as the test wants it"),
        ([], b"a wolf", "the gateway sent another picture than the job is to be drawn from"),
    ):
        gateway, engine = GatewayInMemory(), SteppedEngine(100)
        one, sources = drawn_from(b"a fox")
        gateway.sources = dict.fromkeys(sources, files)
        gateway.trouble("job-source", *trouble)
        gateway.jobs.put_nowait(one)
        async with working(gateway, engine):
            assert await gateway.next(gateway.results) == ("a", {"error": f"image generation failed: {problem}"})


async def test_a_job_that_is_lost_before_its_picture_came_is_dropped():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    one, _ = drawn_from(b"a fox")
    gateway.trouble("job-source", 409)
    gateway.jobs.put_nowait(one)
    gateway.jobs.put_nowait(job("b"))
    async with working(gateway, engine):
        assert (await gateway.next(gateway.results))[0] == "b"


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
    assert gateway.goodbyes == 1


async def test_a_gateway_that_is_gone_is_told_no_goodbye():
    gateway, sleeps = GatewayInMemory(), []
    async with working(gateway, SteppedEngine(), sleeps):
        await gateway.next(gateway.takes)
        gateway.trouble("ping", *[NoAnswer("refused")] * 10)
    assert (gateway.goodbyes, len(gateway.troubles["ping"]), sleeps) == (0, 9, [])


async def test_a_leaving_worker_hands_in_the_picture_that_is_on_its_way():
    gateway, engine = GatewayInMemory(), SteppedEngine(100)
    gateway.image_gate.clear()
    gateway.jobs.put_nowait(job("a"))
    async with working(gateway, engine) as (leave, task):
        assert await gateway.next(gateway.images_came) == "a"
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
