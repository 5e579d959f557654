"""What a worker does all day: take jobs, run them, report them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.errors import (
    DeviceFailed,
    FluxEndpointError,
    GenerationStopped,
    InvalidRequest,
    LeaseLost,
    NotDelivered,
    NotFound,
)
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.job import Failed
from flux_endpoint.core.source_picture import PICTURES
from flux_endpoint.engine.protocol import NO_SOURCES, EncodedImage, Engine
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.worker.client import Gateway, TakenJob
from flux_endpoint.worker.health import Health
from flux_endpoint.worker.progress import FinishTimes, Progress
from flux_endpoint.worker.runner import EngineThread, StopFlag
from flux_endpoint.worker.tracing import JobTrace
from flux_endpoint.worker.turns import Shape

logger = logging.getLogger(__name__)

# Also without a job: the gateway tells idle workers from dead ones by it.
_LONGEST_PING_S: Final = 10.0
# Two pings may be lost before the lease is.
_PINGS_PER_LEASE: Final = 3
# Pictures on their way to a gateway that takes jobs out but no pictures in (a full disk) take the places of others to
# draw, but for one.
_FREE_REPORTS: Final = 1
# A stop can overtake the answer of the take that it belongs to, on another connection; never by this much.
_EARLY_STOP_S: Final = 5.0
# Of the 5 s in which everything must be gone after a signal.
_LEAVE_S: Final = 2.0
# For the goodbye, where nothing is left of these.
_GOODBYE_S: Final = 0.3
# What is drawn may be stopped, or done before its time: then there is room for any job, and nobody tells the gateway.
_LIMITED_HOLD_S: Final = 1.0
_MAX_ERROR_CHARS: Final = 500


class _Left(Exception):
    """Ends the task group of a worker that has left in good order."""


@dataclass(slots=True)
class _Held:
    """A job between its take and the gateway's receipt."""

    job: TakenJob
    stop: StopFlag = field(default_factory=StopFlag)
    task: "asyncio.Task[None] | None" = None
    is_drawn: bool = False
    trace: JobTrace | None = None


class Worker:
    """Takes jobs from one gateway and runs them on its engines, several in turn.

    Args:
        gateway: where jobs come from.
        engines: loaded engines by endpoint id.
        thread: where the engines are stepped.
        monotonic_s: seconds for measuring and for the heartbeat.
        trace: makes the trace of a job, where somebody traces.
        kept_loras: where LoRAs that were fetched for jobs are; None for nowhere.
    """

    def __init__(
        self,
        gateway: Gateway,
        engines: Mapping[str, Engine],
        thread: EngineThread,
        monotonic_s: Callable[[], float] = time.monotonic,
        trace: Callable[[TakenJob], JobTrace] | None = None,
        kept_loras: KeptLoras | None = None,
    ) -> None:
        self._gateway = gateway
        self._trace = trace
        self._kept_loras = kept_loras
        self._engines = engines
        self._thread = thread
        self._monotonic_s = monotonic_s
        self._held: dict[str, _Held] = {}
        self._slots = asyncio.Semaphore(thread.slots + _FREE_REPORTS)
        self._lease_changed = asyncio.Event()
        self._health = Health()
        self._finishes = FinishTimes()
        self._early_stops: dict[str, float] = {}

    async def run(self, leave: asyncio.Event, beside: Iterable[Coroutine[Any, Any, None]] = ()) -> None:
        """Work until `leave` is set; then give the running jobs back and return within `_LEAVE_S`.

        Args:
            leave: see above.
            beside: runs for as long; when one of these raises, so does this.

        Raises:
            Unauthenticated: the worker token is wrong.
            NotFound: the gateway does not serve these endpoints.
            DeviceFailed: nothing can be drawn any more; the gateway knows, and has taken all jobs back.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen_for_stops())
                tasks.create_task(self._keep_leases())
                for task in beside:
                    tasks.create_task(task)
                taking = tasks.create_task(self._take_jobs(tasks))
                tasks.create_task(self._leave_when(leave, taking))
        except BaseExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, DeviceFailed):
                    await self._tell_unwell(str(error))
                if not isinstance(error, _Left):
                    raise error from None
        finally:
            for held in self._held.values():
                held.stop.set()

    async def _take_jobs(self, tasks: asyncio.TaskGroup) -> None:
        """Job after job; they run side by side."""
        while True:
            # 1. A place for one more, until its picture is handed in.
            await self._slots.acquire()
            # 2. Ask for one that would be drawn at once. The gateway holds the question until there is one.
            while (job := await self._ask_for_one()) is None:
                pass
            # 3. From here its lease is kept and it can be stopped.
            held = self._hold(job)
            held.task = tasks.create_task(self._run_job(held))
            # It begins before the next question: for what there is room depends on it.
            await asyncio.sleep(0)

    async def _ask_for_one(self) -> TakenJob | None:
        room = await self._thread.room()
        hold_s = None if room.for_s is None else min(room.for_s, _LIMITED_HOLD_S)
        return await self._gateway.take(is_busy=bool(self._held), at_most=room.at_most, hold_s=hold_s)

    async def _run_job(self, held: _Held) -> None:
        try:
            # 4. Step the engine to the end of the picture, in turn with others.
            drawn = await self._draw(held)
            if held.stop.is_set:
                raise GenerationStopped("stopped after its last step")
            # 5. Hand in the picture while others are drawn.
            held.is_drawn = True
            with held.trace.reporting() if held.trace else contextlib.nullcontext():
                await self._report(held.job, drawn)
        except GenerationStopped:
            # A stopped job reports nothing: the gateway has already given it its end.
            logger.info("job %s stopped", held.job.id)
        except LeaseLost as error:
            logger.warning("job %s is no longer ours: %s", held.job.id, error)
        finally:
            del self._held[held.job.id]
            self._slots.release()

    async def _draw(self, held: _Held) -> Sequence[EncodedImage] | Failed:
        job = held.job
        started_s = self._monotonic_s()
        try:
            request = GenerationRequest.from_input(job.input)
            engine = self._engines.get(job.endpoint_id)
            if engine is None:
                return Failed(f"this worker has no model for the endpoint {job.endpoint_id}")
            sources = await self._sources_of(job, request)
            shape = Shape.of(job.endpoint_id, job.input)
            format_name = request.image_format.name
            progress = Progress(self._gateway, job, self._finishes.expected_s(shape, format_name))
            tracing = held.trace.drawing(engine) if held.trace else contextlib.nullcontext(engine)
            async with progress.sending():
                with tracing as drawn_by:
                    images = await self._thread.generate(
                        job.id,
                        drawn_by,
                        request,
                        shape,
                        held.stop,
                        progress.note,
                        is_low=job.is_low,
                        sources=sources,
                    )
        except (GenerationStopped, LeaseLost):
            raise
        except Exception as error:
            logger.exception("job %s failed", job.id)
            self._health.check(error)
            return Failed(_sentence_of(error))
        logger.info(
            "job %s done: %dx%d, %d steps, %.2f s",
            job.id,
            request.width,
            request.height,
            request.steps_to_draw * request.num_images,
            self._monotonic_s() - started_s,
        )
        self._health.note_picture()
        if progress.finishing_s is not None:
            self._finishes.note(shape, format_name, progress.finishing_s)
        return images

    async def _sources_of(self, job: TakenJob, request: GenerationRequest) -> Mapping[str, bytes]:
        """The pictures that one is drawn from, by their hashes; its LoRAs are put where the engine finds them."""
        for lora in request.loras:
            if lora.is_fetched and self._kept_loras:
                await self._gateway.fetch_lora(job, lora, self._kept_loras)
        named = (getattr(request, name) for name in (*PICTURES, "draft"))
        pictures = [one for one in named if one is not None]
        return {one.sha256: await self._gateway.fetch_source(job, one) for one in pictures} or NO_SOURCES

    async def _report(self, job: TakenJob, drawn: Sequence[EncodedImage] | Failed) -> None:
        try:
            if isinstance(drawn, Failed):
                await self._gateway.report(job, {"error": drawn.error})
                return
            try:
                # Behind drafts, what they can be finished from.
                files = [*(image.data for image in drawn), *(image.latents for image in drawn if image.latents)]
                await self._gateway.deliver(job, files, drawn[0].image_format, _said(job, drawn[0]))
            except (InvalidRequest, NotDelivered) as error:
                logger.error("job %s: %s", job.id, error)
                await self._gateway.report(job, {"error": str(error)})
        except InvalidRequest as error:
            logger.error("job %s: result dropped: %s", job.id, error)
        except NotDelivered as error:
            # Without pings its lease ends, and the gateway, once it is well, gives it another chance or an end.
            logger.error("job %s: let go: %s", job.id, error)
        except (LeaseLost, NotFound) as error:
            logger.warning("job %s is no longer ours, result dropped: %s", job.id, error)

    async def _listen_for_stops(self) -> None:
        while True:
            for job_id in await self._gateway.stops():
                if job_id not in self._held:
                    self._early_stops[job_id] = self._monotonic_s()
                self._stop(job_id)

    async def _keep_leases(self) -> None:
        pinged_s = self._monotonic_s()
        while True:
            due_in_s = max(0.0, pinged_s + self._ping_interval_s() - self._monotonic_s())
            # Not `wait_for`: before Python 3.12 that loses a cancellation which comes at the same moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_in_s):
                    await self._lease_changed.wait()
                # A job with a shorter lease may have come: compute it again.
                self._lease_changed.clear()
                continue
            pinged_s = self._monotonic_s()
            for job_id in await self._gateway.ping(list(self._held)):
                self._stop(job_id)

    def _ping_interval_s(self) -> float:
        return min([_LONGEST_PING_S, *(held.job.lease_s / _PINGS_PER_LEASE for held in self._held.values())])

    async def _leave_when(self, leave: asyncio.Event, taking: "asyncio.Task[None]") -> None:
        await leave.wait()
        ends_s = asyncio.get_running_loop().time() + _LEAVE_S
        # 1. No more jobs, and no more steps of those that run.
        taking.cancel()
        drawn = [held.task for held in self._held.values() if held.is_drawn and held.task]
        drawing = [held for held in self._held.values() if not held.is_drawn]
        for held in drawing:
            held.stop.set()
        # 2. They go back to their places in the queue, without waiting for a step that may take long.
        given_back = [asyncio.create_task(self._give_back(held.job)) for held in drawing]
        # 3. Pictures that are already on their way still arrive, unless the gateway is gone as well.
        if reports := drawn + given_back:
            await asyncio.wait(reports, timeout=_LEAVE_S)
        # 4. Nobody need wonder what has become of this worker.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends_s + _GOODBYE_S):
                await self._gateway.leaving()
        raise _Left

    async def _tell_unwell(self, reason: str) -> None:
        # Without an answer the leases end, some seconds later.
        with contextlib.suppress(FluxEndpointError, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._gateway.unwell(reason)

    async def _give_back(self, job: TakenJob) -> None:
        with contextlib.suppress(FluxEndpointError):
            await self._gateway.report(job, {"returned": True})
            logger.info("job %s given back", job.id)

    def _hold(self, job: TakenJob) -> _Held:
        trace = self._trace(job) if self._trace and job.traceparent else None
        held = self._held[job.id] = _Held(job, trace=trace)
        self._lease_changed.set()
        now_s = self._monotonic_s()
        self._early_stops = {name: at_s for name, at_s in self._early_stops.items() if at_s > now_s - _EARLY_STOP_S}
        if self._early_stops.pop(job.id, None) is not None:
            held.stop.set()
        return held

    def _stop(self, job_id: str) -> None:
        held = self._held.get(job_id)
        if held:
            held.stop.set()
            if held.is_drawn and held.task:
                held.task.cancel()


def _said(job: TakenJob, image: EncodedImage) -> list[tuple[str, str]]:
    """What the output says beside the pictures, by the first. The level only to who asked for one, as ever."""
    said = [("warning", warning) for warning in image.warnings]
    if job.input.get("acceleration", Acceleration.NONE) != Acceleration.NONE:
        said.append(("acceleration", image.acceleration))
    return said


def _sentence_of(error: Exception) -> str:
    """One line for the client; the log has the rest."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no further details"
    if not isinstance(error, FluxEndpointError):
        text = f"{type(error).__name__}: {text}"
    return f"image generation failed: {text}"[:_MAX_ERROR_CHARS]
