"""Tells the client of a running job how far it is, without holding up the steps."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.engine.protocol import StepDone
from flux_endpoint.worker.client import Gateway, TakenJob

logger = logging.getLogger(__name__)

# Often enough for a progress bar. A picture that is done sooner sends nothing.
_PERIOD_S: Final = 0.4


class Progress:
    """The steps of one job: noted by the engine's thread, sent by the event loop.

    Args:
        gateway: who passes it on.
        job: the running job.
        sleep: waits between two messages; tests hand in their own.
        monotonic_s: seconds, for the time that is left.
    """

    def __init__(
        self,
        gateway: Gateway,
        job: TakenJob,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._job = job
        self._sleep = sleep
        self._monotonic_s = monotonic_s
        self._loop = asyncio.get_running_loop()
        self._started_s = monotonic_s()
        self._latest: StepDone | None = None
        self._is_new = asyncio.Event()

    def note(self, step: StepDone) -> None:
        """A step is done; called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._note, step)

    def _note(self, step: StepDone) -> None:
        self._latest = step
        self._is_new.set()

    async def _send_for_ever(self) -> None:
        while True:
            await self._sleep(_PERIOD_S)
            await self._is_new.wait()
            self._is_new.clear()
            step = self._latest
            assert step is not None
            elapsed_ms = (self._monotonic_s() - self._started_s) * 1_000
            eta_ms = round(elapsed_ms / step.step * (step.total - step.step))
            await self._gateway.send_progress(self._job, {"step": step.step, "total": step.total, "eta_ms": eta_ms})

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
