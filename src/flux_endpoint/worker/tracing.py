"""How the parts of a picture show in traces. Only where somebody collects them: elsewhere nothing of it is called."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.tracing import Span, Tracer
from flux_endpoint.engine.protocol import NO_SOURCES, Drawing, EncodedImage, Engine, ModelInfo
from flux_endpoint.worker.client import TakenJob

ENCODE_TEXT: Final = "encode text"
DENOISE: Final = "denoise"
DECODE: Final = "decode"
ENCODE_FILE: Final = "encode file"
_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class _Part:
    start_ns: int
    end_ns: int
    # Others draw between its slices.
    own_ns: int = 0


@dataclass(slots=True)
class TimedEngine:
    """An engine that notes, of the one picture it makes, when each part of it began and ended; implements `Engine`.

    Attributes:
        engine: what draws.
        parts: by name, in order. Written by the threads that draw and encode, and read after the end.
    """

    engine: Engine
    parts: dict[str, _Part] = field(default_factory=dict)

    @property
    def info(self) -> ModelInfo:
        """See `Engine.info`."""
        return self.engine.info

    def load(self) -> None:
        """See `Engine.load`."""
        self.engine.load()

    def generate(self, request: GenerationRequest, sources: Mapping[str, bytes] = NO_SOURCES) -> Drawing:
        """See `Engine.generate`."""
        drawing, name = self.engine.generate(request, sources), ENCODE_TEXT
        try:
            while True:
                start_ns = time.time_ns()
                try:
                    step = next(drawing)
                except StopIteration as end:
                    self._note(name, start_ns)
                    return partial(self._encode, end.value)
                if step:
                    self._note(DENOISE, start_ns)
                    name = DECODE if step.step == step.total else DENOISE
                else:
                    self._note(name, start_ns)
                yield step
        finally:
            drawing.close()

    def release(self, idle_s: float = 0) -> None:
        """See `Engine.release`."""
        self.engine.release(idle_s)

    def time_step(self) -> float | None:
        """See `Engine.time_step`."""
        return self.engine.time_step()

    def close(self) -> None:
        """See `Engine.close`."""
        self.engine.close()

    def _encode(self, encode: Callable[[], EncodedImage]) -> EncodedImage:
        start_ns = time.time_ns()
        image = encode()
        self._note(ENCODE_FILE, start_ns)
        return image

    def _note(self, name: str, start_ns: int) -> None:
        end_ns = time.time_ns()
        part = self.parts.setdefault(name, _Part(start_ns, end_ns))
        part.end_ns, part.own_ns = end_ns, part.own_ns + end_ns - start_ns


class JobTrace:
    """The trace of one job on this worker.

    Args:
        tracer: who is told.
        worker_id: this worker's name.
        job: with the span that it belongs to.
    """

    def __init__(self, tracer: Tracer, worker_id: str, job: TakenJob) -> None:
        self._tracer = tracer
        self._about: Mapping[str, str | int] = {
            "flux_endpoint.job.id": job.id,
            "flux_endpoint.endpoint.id": job.endpoint_id,
            "flux_endpoint.worker.id": worker_id,
        }
        self._parent = job.traceparent

    @contextmanager
    def drawing(self, engine: Engine) -> Iterator[Engine]:
        """Trace the drawing of the job in this block, by the engine that the block gets."""
        timed = TimedEngine(engine)
        with self._span("draw") as span:
            try:
                yield timed
            finally:
                for name, part in timed.parts.items():
                    own = {"flux_endpoint.own_ms": part.own_ns // _NS_PER_MS}
                    self._tracer.record(name, span.traceparent, part.start_ns, part.end_ns, own)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Its picture, or what went wrong, is told to the gateway in this block."""
        with self._span("report"):
            yield

    @contextmanager
    def _span(self, name: str) -> Iterator[Span]:
        span, problem = self._tracer.begin(name, self._parent, self._about), ""
        try:
            yield span
        except BaseException as error:
            problem = type(error).__name__
            raise
        finally:
            span.end(problem=problem)
