"""Telling how fast this worker is: at its start, and every hour while it has nothing to draw."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from flux_endpoint.core.errors import DeviceFailed
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.worker.runner import EngineThread

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 3_600.0
# A busy worker looks again after this: it is not held up for a figure.
_BUSY_S: Final = 60.0
_US_PER_S: Final = 1_000_000


class Calibration:
    """The speed of one engine.

    Attributes:
        step_us: what one step took last, microseconds; None when that was not measured.
    """

    def __init__(
        self, engine: Engine, thread: EngineThread, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._sleep = sleep
        self.step_us: int | None = None

    async def measure(self) -> None:
        """Time one step once no picture is drawn; until then no further one is begun.

        Raises:
            DeviceFailed: nothing can be drawn any more.
        """
        try:
            await self._thread.call(self._measure)
        except DeviceFailed:
            raise
        except Exception:
            # Pictures may still be drawn, and say better what is wrong.
            logger.exception("the time of a step could not be measured")

    async def run(self) -> NoReturn:
        """Measure at once, and every hour, then once there is nothing to draw.

        Raises:
            DeviceFailed: nothing can be drawn any more.
        """
        while True:
            await self.measure()
            await self._sleep(_PERIOD_S)
            while self._thread.is_drawing:
                await self._sleep(_BUSY_S)

    def _measure(self) -> None:
        seconds = self._engine.time_step()
        if seconds is not None:
            self.step_us = max(1, round(seconds * _US_PER_S))
            logger.info("a step of the calibration takes %.1f ms", seconds * 1_000)
