"""The engine's thread outlives what goes wrong beside a step."""

import asyncio
import threading

import pytest

from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.protocol import EncodedImage, StepDone
from flux_endpoint.worker.runner import EngineThread, StopFlag
from flux_endpoint.worker.turns import Shape
from tests.unit.gateway_in_memory import DEADLINE_S, DEV, job

pytestmark = pytest.mark.anyio


class Gated:
    """Waits in its only step until it may go on; its clean-up may fail."""

    def __init__(self, clean_up_error=None):
        self.clean_up_error = clean_up_error
        self.has_begun, self.may_go = threading.Event(), threading.Event()

    def generate(self, request, *sources):
        self.has_begun.set()
        try:
            assert self.may_go.wait(DEADLINE_S)
            yield StepDone(1, 2)
            yield StepDone(2, 2)
        finally:
            if self.clean_up_error:
                raise self.clean_up_error
        return lambda: EncodedImage(b"picture", request.image_format, request.width, request.height)


def drawing(thread, engine, stop):
    fields = job("any")["input"]
    request = GenerationRequest.from_input(fields)
    return thread.generate("any", engine, request, Shape.of(DEV, fields), stop, lambda _: None)


async def test_a_call_that_nobody_waits_for_any_more_does_not_end_the_thread():
    thread, engine, called = EngineThread(), Gated(), threading.Event()
    drawn = asyncio.create_task(drawing(thread, engine, StopFlag()))
    assert await asyncio.to_thread(engine.has_begun.wait, DEADLINE_S)
    call = asyncio.create_task(thread.call(called.set))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    engine.may_go.set()
    assert (await asyncio.wait_for(drawn, DEADLINE_S))[0].data == b"picture"
    assert await asyncio.to_thread(called.wait, DEADLINE_S)
    assert (await asyncio.wait_for(drawing(thread, engine, StopFlag()), DEADLINE_S))[0].data == b"picture"
    assert thread.close(DEADLINE_S)


async def test_a_stopped_picture_whose_clean_up_fails_does_not_end_the_thread():
    thread, engine, stop = EngineThread(), Gated(RuntimeError("clean-up failed")), StopFlag()
    drawn = asyncio.create_task(drawing(thread, engine, stop))
    assert await asyncio.to_thread(engine.has_begun.wait, DEADLINE_S)
    stop.set()
    engine.may_go.set()
    with pytest.raises(RuntimeError, match="clean-up failed"):
        await asyncio.wait_for(drawn, DEADLINE_S)
    good = Gated()
    good.may_go.set()
    assert (await asyncio.wait_for(drawing(thread, good, StopFlag()), DEADLINE_S))[0].data == b"picture"
    assert thread.close(DEADLINE_S)


class SlowToEncode:
    """Draws at once, and encodes when it may."""

    def __init__(self, error=None):
        self.error = error
        self.is_drawn, self.may_encode = threading.Event(), threading.Event()

    def generate(self, request, *sources):
        yield StepDone(1, 1)
        self.is_drawn.set()
        return lambda: self.encode(request)

    def encode(self, request):
        assert self.may_encode.wait(DEADLINE_S)
        if self.error:
            raise self.error
        return EncodedImage(b"picture", request.image_format, request.width, request.height)


async def test_the_next_picture_is_drawn_while_a_file_is_encoded():
    thread, first, second = EngineThread(), SlowToEncode(), SlowToEncode()
    encoding = asyncio.create_task(drawing(thread, first, StopFlag()))
    assert await asyncio.to_thread(first.is_drawn.wait, DEADLINE_S)
    # There is room for another one from here on.
    assert (await asyncio.wait_for(thread.room(), DEADLINE_S)).at_most is None
    following = asyncio.create_task(drawing(thread, second, StopFlag()))
    assert await asyncio.to_thread(second.is_drawn.wait, DEADLINE_S)
    assert not encoding.done()
    first.may_encode.set()
    second.may_encode.set()
    for picture in (encoding, following):
        assert (await asyncio.wait_for(picture, DEADLINE_S))[0].data == b"picture"
    assert thread.close(DEADLINE_S)


async def test_a_file_that_cannot_be_encoded_fails_its_picture_only():
    thread, broken, good = EngineThread(), SlowToEncode(OSError("encoder error")), SlowToEncode()
    broken.may_encode.set()
    good.may_encode.set()
    with pytest.raises(OSError, match="encoder error"):
        await asyncio.wait_for(drawing(thread, broken, StopFlag()), DEADLINE_S)
    assert (await asyncio.wait_for(drawing(thread, good, StopFlag()), DEADLINE_S))[0].data == b"picture"
    assert thread.close(DEADLINE_S)


class Seeded:
    """Draws a picture of two steps and of its seed; the files of odd seeds cannot be encoded."""

    def generate(self, request, *sources):
        yield StepDone(1, 2)
        yield StepDone(2, 2)
        yield None
        return lambda: self.encode(request)

    def encode(self, request):
        if request.seed % 2:
            raise OSError(f"cannot encode {request.seed}")
        return EncodedImage(b"%d" % request.seed, request.image_format, request.width, request.height)


async def test_the_pictures_of_a_job_are_drawn_one_after_the_other_and_their_steps_counted_through():
    thread, steps = EngineThread(), []
    fields = job("any", seed=2**32 - 2, num_images=3)["input"]
    request = GenerationRequest.from_input(fields)
    engine = Seeded()
    engine.encode = lambda picture: EncodedImage(
        b"%d" % picture.seed, picture.image_format, picture.width, picture.height
    )
    images = await thread.generate("any", engine, request, Shape.of(DEV, fields), StopFlag(), steps.append)
    assert [image.data for image in images] == [b"4294967294", b"4294967295", b"0"]
    assert steps == [StepDone(number, 6) for number in range(1, 7)]
    assert (await asyncio.wait_for(thread.room(), DEADLINE_S)).at_most is None
    assert thread.close(DEADLINE_S)


async def test_one_picture_that_cannot_be_encoded_fails_its_job():
    thread = EngineThread()
    fields = job("any", seed=2, num_images=3)["input"]
    request = GenerationRequest.from_input(fields)
    with pytest.raises(OSError, match="cannot encode 3"):
        await thread.generate("any", Seeded(), request, Shape.of(DEV, fields), StopFlag(), lambda _: None)
    assert thread.close(DEADLINE_S)
