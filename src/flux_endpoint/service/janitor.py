"""Puts back what lost workers held, and throws away what has expired."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import FluxEndpointError, StoreUnavailable
from flux_endpoint.service.images import MS_PER_DAY, ImageService
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.pictures.protocol import PictureStore
from flux_endpoint.stores.retention.protocol import RetentionStore
from flux_endpoint.stores.timekeeping.protocol import Timekeeper

logger = logging.getLogger(__name__)

# A lost lease is noticed at most this much after it ran out; one indexed query each time.
_LEASE_PERIOD_S = 2.0
# What has expired nobody can read any more; how soon it is erased does not matter much.
_ERASE_PERIOD_MS = 10_000
# Retention is counted in days; an hour more or less on a disk does not matter, on the wire it is exact anyway.
_RETENTION_PERIOD_MS = 3_600_000


# How long a picture may take to be saved; after that, and when its attempt is over, nobody will name it any more.
_ORPHAN_MS = 600_000
_ORPHANS_AT_ONCE = 100


class Janitor:
    """Sweeps for as long as the gateway runs.

    Args:
        retention: swept of what clients can no longer read, and of what was over `history_days` ago.
        pictures: swept of those that no job will name.
        workforce: swept of leases that ran out.
        images: swept of expired pictures.
        clock: decides what has expired.
        timekeeper: sets the clock, once each round; None for a clock that needs nobody to.
        history_days: how long the figures of a job that nobody can read any more, and the log of webhooks, are kept.
        sleep: waits between sweeps; tests hand in their own.
        on_clock_moved: told by how many milliseconds the clock was set, after the workforce was.
    """

    def __init__(
        self,
        retention: RetentionStore,
        pictures: PictureStore,
        workforce: Workforce,
        images: ImageService,
        clock: Clock,
        timekeeper: Timekeeper | None = None,
        history_days: float = 30,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_clock_moved: Callable[[int], None] = lambda by_ms: None,
    ) -> None:
        self._retention = retention
        self._pictures = pictures
        self._workforce = workforce
        self._images = images
        self._clock = clock
        self._timekeeper = timekeeper
        self._history_ms = round(history_days * MS_PER_DAY)
        self._sleep = sleep
        self._on_clock_moved = on_clock_moved
        self._next_erasure_ms = 0
        self._next_retention_ms = 0

    async def run(self) -> None:
        """Sweep until cancelled. A failing sweep is logged and tried again."""
        # Workers on other machines went on drawing while this gateway was away, and may have had no other.
        self._workforce.spare_leases()
        while True:
            try:
                await self.sweep()
            except FluxEndpointError as error:
                # That the database does not answer has been logged.
                level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.WARNING
                logger.log(level, "sweep failed, will be tried again: %s", error)
                self._workforce.spare_leases()
            await self._sleep(_LEASE_PERIOD_S)

    async def sweep(self) -> None:
        """One round: clock and leases always; expired jobs every ten seconds; pictures and history once an hour."""
        if self._timekeeper is not None and (moved_ms := await self._timekeeper.keep()):
            self._workforce.clock_moved(moved_ms)
            self._on_clock_moved(moved_ms)
        await self._workforce.sweep()
        passed_ms = self._clock.monotonic_ms()
        if passed_ms >= self._next_erasure_ms:
            self._next_erasure_ms = passed_ms + _ERASE_PERIOD_MS
            await self._retention.erase_expired()
        if passed_ms < self._next_retention_ms:
            return
        self._next_retention_ms = passed_ms + _RETENTION_PERIOD_MS
        now_ms = self._clock.now_ms()
        orphans = await self._sweep_orphans(now_ms)
        pictures = await self._images.sweep()
        forgotten = await self._retention.forget(now_ms - self._history_ms)
        deleted = (pictures, forgotten.jobs, forgotten.webhooks)
        if any(deleted):
            logger.info("retention: %d pictures, %d job records and %d webhooks deleted", *deleted)
        if orphans:
            logger.warning("%d pictures deleted that were saved for jobs which ended without them", orphans)

    async def _sweep_orphans(self, now_ms: int) -> int:
        """Delete what was saved by a process that died before it could say so, or for a job that was over by then."""
        total = 0
        while True:
            keys = await self._pictures.orphaned_pictures(now_ms - _ORPHAN_MS, _ORPHANS_AT_ONCE)
            for key in keys:
                await self._images.delete(key)
            # Only then: what could not be deleted is found again.
            await self._pictures.forget_pictures(keys)
            total += len(keys)
            if len(keys) < _ORPHANS_AT_ONCE:
                return total
