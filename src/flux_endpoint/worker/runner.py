"""The one thread that steps the engines, for several jobs in turn."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from flux_endpoint.core.errors import GenerationStopped
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.protocol import NO_SOURCES, Drawing, EncodedImage, Engine, StepDone
from flux_endpoint.worker.turns import Room, Shape, Turns


@dataclass(frozen=True, slots=True)
class StopFlag:
    """Tells a running generation to end; may be set from any thread."""

    _event: threading.Event = field(default_factory=threading.Event)

    def set(self) -> None:
        """Ask for the end; the generation obeys between two slices, of whichever picture."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()


@dataclass(slots=True)
class _Drawing:
    """The pictures of one job, drawn one after the other."""

    engine: Engine
    pictures: Sequence[GenerationRequest]
    stop: StopFlag
    on_step: Callable[[StepDone], None]
    sources: Mapping[str, bytes]
    result: "Future[list[EncodedImage]]" = field(default_factory=Future)
    slices: Drawing | None = None
    encoded: "list[Future[EncodedImage]]" = field(default_factory=list)

    def advance(self) -> StepDone | None:
        """Draw one slice of the picture that is next; see `Drawing`."""
        if self.slices is None:
            self.slices = self.engine.generate(self.pictures[len(self.encoded)], self.sources)
        step = next(self.slices)
        if step:
            done, of_all = len(self.encoded) * step.total, len(self.pictures) * step.total
            self.on_step(replace(step, step=done + step.step, total=of_all) if of_all > step.total else step)
        return step

    def encode_with(self, pool: Executor, encode: Callable[[], EncodedImage]) -> bool:
        """Have a drawn picture encoded; whether it was the last."""
        self.slices = None
        self.encoded.append(pool.submit(encode))
        is_last = len(self.encoded) == len(self.pictures)
        if is_last:
            # One is encoded after the other: it finds all done.
            pool.submit(_fulfil, self.result, lambda: [one.result() for one in self.encoded])
        return is_last

    def give_up(self, error: Exception) -> None:
        """Drop the picture."""
        try:
            if self.slices is not None:
                self.slices.close()
        except Exception as problem:
            # The thread goes on: others draw here, too.
            error = problem
        self.result.set_exception(error)


class EngineThread:
    """Runs generations slice by slice in a thread of their own, so that the network never waits for one.

    Files are encoded in another thread, so that the next picture need not wait either.

    Args:
        slots: how many pictures may be drawn at once.
        monotonic_s: seconds, for the costs of steps.
    """

    def __init__(self, slots: int = 1, monotonic_s: Callable[[], float] = time.perf_counter) -> None:
        self.slots = slots
        self._monotonic_s = monotonic_s
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        # Held by whoever looks at what stands below; never while a step runs.
        self._news = threading.Condition()
        self._turns = Turns(slots)
        self._drawings: dict[str, _Drawing] = {}
        self._calls: deque[tuple[Future[None], Callable[[], object]]] = deque()
        self._is_closed = False
        self._encoding = ThreadPoolExecutor(1, "encode")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_drawing(self) -> bool:
        """Whether any picture has begun and not ended."""
        return bool(self._drawings)

    async def room(self) -> Room:
        """Wait until there is room for one more picture, and tell for which."""
        while True:
            self._changed.clear()
            with self._news:
                room = None if self._calls else self._turns.room()
            if room is not None and room.at_most != 0:
                return room
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(room.for_s if room else None):
                    await self._changed.wait()

    async def generate(
        self,
        job_id: str,
        engine: Engine,
        request: GenerationRequest,
        shape: Shape,
        stop: StopFlag,
        on_step: Callable[[StepDone], None],
        *,
        is_low: bool = False,
        sources: Mapping[str, bytes] = NO_SOURCES,
    ) -> list[EncodedImage]:
        """Make the pictures of a job, in turn with others.

        Args:
            job_id: of no other job that is drawn at the moment.
            engine: draws them.
            request: for all of them.
            shape: of each; what its slices cost is remembered by it.
            stop: ends it between two slices once it is set.
            on_step: called after each step, in the engine's thread.
            is_low: whether jobs that are not go first.
            sources: files that the pictures are drawn from, by SHA-256.

        Returns:
            The pictures, in order.

        Raises:
            GenerationStopped: `stop` was set before the end; the engine has dropped the picture.
            Exception: whatever the engine raised.
        """
        drawing = _Drawing(engine, request.pictures, stop, on_step, sources)
        drawing.result.set_running_or_notify_cancel()
        with self._news:
            self._turns.add(job_id, shape, request.steps_to_draw, request.num_images, is_low=is_low)
            self._drawings[job_id] = drawing
            self._news.notify()
        return await asyncio.wrap_future(drawing.result)

    async def call(self, function: Callable[[], object]) -> None:
        """Call something in the engine's thread while no picture is drawn; until then no further one is begun."""
        called: Future[None] = Future()
        # From here on nobody can cancel it, and the thread may always answer.
        called.set_running_or_notify_cancel()
        with self._news:
            self._calls.append((called, function))
            self._news.notify()
        await asyncio.wrap_future(called)

    def close(self, timeout_s: float) -> bool:
        """Draw no further. False when the last step still runs after `timeout_s` seconds."""
        with self._news:
            self._is_closed = True
            self._news.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._drawings or self._calls or self._is_closed)
                stopped = [job_id for job_id, drawing in self._drawings.items() if drawing.stop.is_set]
                dropped = [self._pop(job_id) for job_id in (self._drawings if self._is_closed else stopped).copy()]
                job_id = self._turns.next() if self._drawings else ""
                drawing = self._drawings.get(job_id)
                call = self._calls.popleft() if self._calls and not self._drawings else None
            for gone in dropped:
                gone.give_up(GenerationStopped("stopped between two slices"))
            if drawing:
                self._advance(job_id, drawing)
            elif call:
                _fulfil(*call)
            elif self._is_closed:
                self._encoding.shutdown(wait=False)
                return
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody asks any more
                self._loop.call_soon_threadsafe(self._changed.set)

    def _advance(self, job_id: str, drawing: _Drawing) -> None:
        step, encode, problem = None, None, None
        started_s = self._monotonic_s()
        try:
            step = drawing.advance()
        except StopIteration as end:
            encode = end.value
        except Exception as error:
            problem = error
        took_s = self._monotonic_s() - started_s
        is_done = encode is not None and drawing.encode_with(self._encoding, encode)
        with self._news:
            self._turns.drawn(job_id, took_s, step.step if step else None)
            if is_done or problem:
                self._pop(job_id)
            elif encode:
                self._turns.begin_next(job_id)
        if problem:
            drawing.give_up(problem)

    def _pop(self, job_id: str) -> _Drawing:
        self._turns.remove(job_id)
        return self._drawings.pop(job_id)


def _fulfil(future: "Future[Any]", function: Callable[[], object]) -> None:
    try:
        result = function()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
