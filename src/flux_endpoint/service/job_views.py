"""Jobs as their clients see them: with their place in the queue, and whether a worker is there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.jobs.protocol import JobStore

NO_WORKER: Final = "no worker serves this endpoint"
# Clients poll in loops, and workers do not come and go within less.
_CACHE_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands now.

    Attributes:
        queue_position: 1 for the next; None unless the job waits.
        notice: `NO_WORKER` while the job waits for a worker that is not there; else None.
    """

    job: Job
    queue_position: int | None
    notice: str | None


class JobViews:
    """Tells what becomes of a job, to any number of clients.

    Args:
        store: where jobs are kept; tells changes of a job, but not those of its place in the queue.
        workforce: knows the workers; what it says is believed for a second.
        clock: ages what it has said.
        queue_period_s: how often the place of a waiting job, and whether a worker is there, are asked for.
        silence_s: how long whoever follows a job is left without a sign of life.
    """

    def __init__(
        self,
        store: JobStore,
        workforce: Workforce,
        clock: Clock,
        queue_period_s: float = 1,
        silence_s: float = 10,
    ) -> None:
        self._store = store
        self._workforce = workforce
        self._clock = clock
        self._queue_period_s = queue_period_s
        self._silence_s = silence_s
        # By endpoint: whether a worker was there, and when that was asked.
        self._served: dict[str, tuple[bool, int]] = {}

    async def view(self, job: Job) -> JobView:
        """A job with what is not in its record."""
        notice = None
        if job.status is JobStatus.IN_QUEUE and not await self._is_served(job.endpoint_id):
            notice = NO_WORKER
        return JobView(job, await self._store.queue_position(job), notice)

    async def follow(self, job: Job) -> AsyncIterator[JobView | None]:
        """The job at once, then at each change; ends after the job has, or when the process is about to end.

        None in between is a sign of life: nothing has changed for `silence_s` seconds.

        Raises:
            UnknownJob: the job's time is over.
        """
        loop = asyncio.get_running_loop()
        view = await self.view(job)
        yield view
        told_s = loop.time()
        while not view.job.status.is_terminal and not self._store.is_draining:
            left_s = told_s + self._silence_s - loop.time()
            if left_s <= 0:
                yield None
                told_s = loop.time()
                continue
            is_queued = view.job.status is JobStatus.IN_QUEUE
            hold_s = min(left_s, self._queue_period_s) if is_queued else left_s
            now = await self.view(
                await self._store.wait_for_change(view.job.endpoint_id, view.job.id, view.job, hold_s)
            )
            if now != view:
                view = now
                yield view
                told_s = loop.time()

    async def _is_served(self, endpoint_id: str) -> bool:
        now_ms = self._clock.monotonic_ms()
        is_served, asked_ms = self._served.get(endpoint_id, (False, now_ms - _CACHE_MS))
        if now_ms - asked_ms >= _CACHE_MS:
            is_served = await self._workforce.serves(endpoint_id)
            self._served[endpoint_id] = (is_served, now_ms)
        return is_served
