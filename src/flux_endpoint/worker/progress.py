"""Tells the client of a running job how far it is, without holding up the steps."""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.engine.protocol import StepDone
from flux_endpoint.worker.client import Gateway, TakenJob
from flux_endpoint.worker.turns import Shape

logger = logging.getLogger(__name__)

# Often enough for a progress bar. A picture that is done sooner sends nothing.
_PERIOD_S: Final = 0.4
_JPEG_URL: Final = "data:image/jpeg;base64,"
# What the end is taken for until one was seen: this part of the time of all steps.
_UNSEEN_FINISH: Final = 0.25


class FinishTimes:
    """How long pictures take on this worker after their last step: decoding, and encoding the file."""

    def __init__(self) -> None:
        self._s_per_pixel: dict[tuple[str, str, str], float] = {}

    def expected_s(self, shape: Shape, image_format: str) -> float | None:
        """Seconds, told from the last picture of this kind; None before the first."""
        pace = self._s_per_pixel.get((shape.endpoint_id, shape.level, image_format))
        return None if pace is None else pace * shape.width * shape.height

    def note(self, shape: Shape, image_format: str, seconds: float) -> None:
        """A picture has taken so long."""
        pace = seconds / (shape.width * shape.height)
        self._s_per_pixel[shape.endpoint_id, shape.level, image_format] = pace


@dataclass(frozen=True, slots=True)
class _Noted:
    """A step without what it holds on to, and its preview if one was made."""

    step: int
    total: int
    preview: bytes | None

    @property
    def is_last(self) -> bool:
        return self.step == self.total


class Progress:
    """The steps of one job: noted by the engine's thread, sent by the event loop.

    A preview is made, by the engine's thread between two steps, only for the step that will be sent.

    Args:
        gateway: who passes it on.
        job: the running job.
        finish_s: how long it will take after the last step, in seconds; None when that is not known.
        sleep: waits between two messages; tests hand in their own.
        monotonic_s: seconds, for the time that is left.
    """

    def __init__(
        self,
        gateway: Gateway,
        job: TakenJob,
        finish_s: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._job = job
        self._finish_s = finish_s
        self._sleep = sleep
        self._monotonic_s = monotonic_s
        self._loop = asyncio.get_running_loop()
        self._started_s = monotonic_s()
        self._last_step_s: float | None = None
        self._latest: _Noted | None = None
        self._is_new = asyncio.Event()
        # Set by the event loop, read by the engine's thread: a step too early or too late does no harm.
        self._is_due = False

    @property
    def finishing_s(self) -> float | None:
        """Seconds since the last step was done; None before."""
        return None if self._last_step_s is None else self._monotonic_s() - self._last_step_s

    def note(self, step: StepDone) -> None:
        """A step is done; called in the engine's thread."""
        if step.step == step.total:
            self._last_step_s = self._monotonic_s()
        preview = self._preview_of(step) if self._is_due and step.preview else None
        self._loop.call_soon_threadsafe(self._note, _Noted(step.step, step.total, preview))

    def _preview_of(self, step: StepDone) -> bytes | None:
        assert step.preview is not None
        try:
            return step.preview()
        except Exception:
            # Out of memory, for instance: the picture itself may still come out.
            logger.exception("job %s: no preview of step %d", self._job.id, step.step)
            return None

    def _note(self, noted: _Noted) -> None:
        self._latest = noted
        self._is_new.set()

    async def _send_for_ever(self) -> None:
        while self._latest is None or not self._latest.is_last:
            await self._sleep(_PERIOD_S)
            if self._latest is None or not self._latest.is_last:
                # The next step, which shall have a preview, and not the last one, which has none.
                self._is_new.clear()
                self._is_due = True
                await self._is_new.wait()
                self._is_due = False
            await self._gateway.send_progress(self._job, self._message(self._latest))

    def _message(self, noted: _Noted | None) -> dict[str, Any]:
        assert noted is not None
        elapsed_s = self._monotonic_s() - self._started_s
        step_s = elapsed_s / noted.step
        finish_s = _UNSEEN_FINISH * step_s * noted.total if self._finish_s is None else self._finish_s
        eta_s = step_s * (noted.total - noted.step) + finish_s
        percent = round(100 * elapsed_s / (elapsed_s + eta_s)) if elapsed_s else 0
        message = {"step": noted.step, "total": noted.total, "percent": percent, "eta_ms": round(1_000 * eta_s)}
        if noted.preview is None:
            return message
        return message | {"preview": _JPEG_URL + base64.b64encode(noted.preview).decode()}

    async def _send(self) -> None:
        try:
            await self._send_for_ever()
        except FluxEndpointError as error:
            # What must stop the job reaches the worker by other ways; progress is a courtesy.
            logger.debug("job %s: no more progress: %s", self._job.id, error)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send what is noted for as long as the block runs."""
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
