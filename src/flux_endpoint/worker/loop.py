"""What a worker does all day: take a job, run it, report it."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.errors import (
    FluxEndpointError,
    GenerationStopped,
    InvalidRequest,
    LeaseLost,
    NotDelivered,
    NotFound,
)
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.job import Failed
from flux_endpoint.engine.protocol import EncodedImage, Engine
from flux_endpoint.worker.client import Gateway, TakenJob
from flux_endpoint.worker.progress import Progress
from flux_endpoint.worker.runner import EngineThread, StopFlag

logger = logging.getLogger(__name__)

# Also without a job: the gateway tells idle workers from dead ones by it.
_LONGEST_PING_S: Final = 10.0
# Two pings may be lost before the lease is.
_PINGS_PER_LEASE: Final = 3
# Pictures on their way to a gateway that takes jobs out but no pictures in (a full disk): then no more are drawn.
_MAX_REPORTS: Final = 2
# A stop can overtake the answer of the take that it belongs to, on another connection; never by this much.
_EARLY_STOP_S: Final = 5.0
# Of the 5 s in which everything must be gone after a signal.
_LEAVE_S: Final = 2.0
_MAX_ERROR_CHARS: Final = 500


class _Left(Exception):
    """Ends the task group of a worker that has left in good order."""


@dataclass(slots=True)
class _Held:
    """A job between its take and the gateway's receipt."""

    job: TakenJob
    stop: StopFlag = field(default_factory=StopFlag)
    report: "asyncio.Task[None] | None" = None


class Worker:
    """Takes jobs from one gateway and runs them on its engines, one at a time.

    Args:
        gateway: where jobs come from.
        engines: loaded engines by endpoint id.
        thread: where the engines are stepped.
        monotonic_s: seconds for measuring and for the heartbeat.
    """

    def __init__(
        self,
        gateway: Gateway,
        engines: Mapping[str, Engine],
        thread: EngineThread,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._engines = engines
        self._thread = thread
        self._monotonic_s = monotonic_s
        self._held: dict[str, _Held] = {}
        self._drawing: _Held | None = None
        self._report_slots = asyncio.Semaphore(_MAX_REPORTS)
        self._lease_changed = asyncio.Event()
        self._early_stops: dict[str, float] = {}

    async def run(self, leave: asyncio.Event) -> None:
        """Work until `leave` is set; then give the running job back and return within `_LEAVE_S`.

        Raises:
            Unauthenticated: the worker token is wrong.
            NotFound: the gateway does not serve these endpoints.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen_for_stops())
                tasks.create_task(self._keep_leases())
                taking = tasks.create_task(self._take_jobs(tasks))
                tasks.create_task(self._leave_when(leave, taking))
        except BaseExceptionGroup as group:
            for error in group.exceptions:
                if not isinstance(error, _Left):
                    raise error from None
        finally:
            if self._drawing:
                self._drawing.stop.set()

    async def _take_jobs(self, tasks: asyncio.TaskGroup) -> None:
        """Job after job. The report of one goes out while the next one is already running."""
        while True:
            # 1. Room for one more picture on its way out.
            await self._report_slots.acquire()
            # 2. Ask for a job; the gateway holds the question until there is one, so this asks again at once.
            while (job := await self._gateway.take(is_busy=bool(self._held))) is None:
                pass
            # 3. From here its lease is kept and it can be stopped.
            held = self._hold(job)
            # 4. Step the engine to the end of the picture.
            try:
                drawn = await self._draw(held)
            except GenerationStopped:
                # A stopped job reports nothing: the gateway has already given it its end.
                logger.info("job %s stopped", job.id)
                self._let_go(held)
                continue
            # 5. Hand in the picture beside the next job.
            held.report = tasks.create_task(self._report(held.job, drawn))
            held.report.add_done_callback(functools.partial(self._let_go, held))

    async def _draw(self, held: _Held) -> EncodedImage | Failed:
        job = held.job
        started_s = self._monotonic_s()
        self._drawing = held
        try:
            request = GenerationRequest.from_input(job.input)
            engine = self._engines.get(job.endpoint_id)
            if engine is None:
                return Failed(f"this worker has no model for the endpoint {job.endpoint_id}")
            progress = Progress(self._gateway, job)
            async with progress.sending():
                image = await self._thread.generate(engine, request, held.stop, progress.note)
        except GenerationStopped:
            raise
        except Exception as error:
            logger.exception("job %s failed", job.id)
            return Failed(_sentence_of(error))
        finally:
            self._drawing = None
        logger.info(
            "job %s done: %dx%d, %d steps, %.2f s",
            job.id,
            request.width,
            request.height,
            request.num_inference_steps,
            self._monotonic_s() - started_s,
        )
        return image

    async def _report(self, job: TakenJob, drawn: EncodedImage | Failed) -> None:
        try:
            if isinstance(drawn, Failed):
                await self._gateway.report(job, {"error": drawn.error})
                return
            try:
                await self._gateway.deliver(job, drawn.data, drawn.image_format, _said(job, drawn))
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lease_changed.wait(), due_in_s)
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
        # 1. No more jobs, and no more steps of the one that runs.
        taking.cancel()
        drawing = self._drawing
        reports = [held.report for held in self._held.values() if held.report]
        if drawing:
            drawing.stop.set()
            # 2. It goes back to its place in the queue, without waiting for a step that may take long.
            reports.append(asyncio.create_task(self._give_back(drawing.job)))
        # 3. Pictures that are already on their way still arrive, unless the gateway is gone as well.
        if reports:
            await asyncio.wait(reports, timeout=_LEAVE_S)
        raise _Left

    async def _give_back(self, job: TakenJob) -> None:
        with contextlib.suppress(FluxEndpointError):
            await self._gateway.report(job, {"returned": True})
            logger.info("job %s given back", job.id)

    def _hold(self, job: TakenJob) -> _Held:
        held = self._held[job.id] = _Held(job)
        self._lease_changed.set()
        now_s = self._monotonic_s()
        self._early_stops = {name: at_s for name, at_s in self._early_stops.items() if at_s > now_s - _EARLY_STOP_S}
        if self._early_stops.pop(job.id, None) is not None:
            held.stop.set()
        return held

    def _let_go(self, held: _Held, _report: "asyncio.Task[None] | None" = None) -> None:
        del self._held[held.job.id]
        self._report_slots.release()

    def _stop(self, job_id: str) -> None:
        held = self._held.get(job_id)
        if held:
            held.stop.set()
            if held.report:
                held.report.cancel()


def _said(job: TakenJob, image: EncodedImage) -> list[tuple[str, str]]:
    """What the output says beside the picture. The level only to who asked for one: others get what they always got."""
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
