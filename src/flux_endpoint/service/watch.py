"""Follows one job for as long as somebody looks on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.service.attendance import Attendance
from flux_endpoint.stores.protocol import JobStore


@dataclass(frozen=True, slots=True)
class Sight:
    """A job as it stands now.

    Attributes:
        queue_position: 1 for the next; None unless the job waits.
        notice: see `Attendance.notice`; None unless the job waits.
    """

    job: Job
    queue_position: int | None
    notice: str | None


class JobWatch:
    """Tells what becomes of a job, to any number of onlookers.

    Args:
        store: where jobs are kept; tells changes of a job, but not those of its place in the queue.
        attendance: tells whether a worker is there.
        queue_period_s: how often that and the place of a waiting job are asked for.
        silence_s: how long an onlooker is left without a sign of life.
    """

    def __init__(
        self, store: JobStore, attendance: Attendance, queue_period_s: float = 1, silence_s: float = 10
    ) -> None:
        self._store = store
        self._attendance = attendance
        self._queue_period_s = queue_period_s
        self._silence_s = silence_s

    async def follow(self, job: Job) -> AsyncIterator[Sight | None]:
        """The job at once, then at each change; ends after the job has, or when the process is about to end.

        None in between is a sign of life: nothing has changed for `silence_s` seconds.

        Raises:
            UnknownJob: the job's time is over.
        """
        loop = asyncio.get_running_loop()
        sight = await self.sight(job)
        yield sight
        told_s = loop.time()
        while not sight.job.status.is_terminal and not self._store.is_draining:
            left_s = told_s + self._silence_s - loop.time()
            if left_s <= 0:
                yield None
                told_s = loop.time()
                continue
            is_queued = sight.job.status is JobStatus.IN_QUEUE
            hold_s = min(left_s, self._queue_period_s) if is_queued else left_s
            now = await self.sight(
                await self._store.wait_for_change(sight.job.endpoint_id, sight.job.id, sight.job, hold_s)
            )
            if now != sight:
                sight = now
                yield sight
                told_s = loop.time()

    async def sight(self, job: Job) -> Sight:
        """A job with what is not in its record."""
        notice = await self._attendance.notice(job.endpoint_id) if job.status is JobStatus.IN_QUEUE else None
        return Sight(job, await self._store.queue_position(job), notice)
