"""Figures for a program that watches the server and asks again and again: how things are, and sums that only grow."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from flux_endpoint.core.activity import DURATION_BOUNDS_MS, EndedJobs, QueueFigures
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import JobStatus
from flux_endpoint.core.periods import MS_PER_HOUR
from flux_endpoint.core.webhook import DeliveryState
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.webhooks import Deliverer
from flux_endpoint.service.worker_registry import WorkerView, count_workers
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.accounts.protocol import AccountStore
from flux_endpoint.stores.activity.protocol import ActivityStore

# Whoever asks sooner gets the same figures.
_KEEP_MS: Final = 1_000
# A job's end is stamped before it is committed: what ended later than this ago may not be visible yet.
_COMMIT_MS: Final = 5_000
_FOR_EVER_MS: Final = 100 * 366 * 24 * MS_PER_HOUR


@dataclass(slots=True)
class Histogram:
    """Times of completed jobs.

    Attributes:
        counts: by the pieces of `DURATION_BOUNDS_MS`, the last one for what is longer.
        total_ms: of all of them together.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS_MS) + 1))
    total_ms: int = 0

    def add(self, piece: int, jobs: int, total_ms: int) -> None:
        """Count jobs that took about so long."""
        self.counts[piece] += jobs
        self.total_ms += total_ms


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is told. By endpoint, all gateways of one database tell the same; the rest is this gateway's own.

    Attributes:
        now_ms: when it was read.
        queues: unfinished jobs of each endpoint.
        ended: by endpoint and outcome, jobs that ended since this gateway was started.
        retried: by endpoint, how often lost workers sent these back to the queue.
        delays: by endpoint, of those that were completed.
        executions: the same.
        spent_usd: by endpoint, what was charged since then.
        workers: all that are known, at all gateways.
        worker_counts: how many of these are in each state.
        lost_jobs: what became of jobs whose worker or lease was lost here.
        webhooks: how attempts to deliver webhooks ended here.
        picture_bytes: of pictures that workers handed in here.
    """

    now_ms: int
    queues: Sequence[QueueFigures]
    ended: Mapping[tuple[str, JobStatus], int]
    retried: Mapping[str, int]
    delays: Mapping[str, Histogram]
    executions: Mapping[str, Histogram]
    spent_usd: Mapping[str, Decimal]
    workers: Sequence[WorkerView]
    worker_counts: Mapping[str, int]
    lost_jobs: Mapping[str, int]
    webhooks: Mapping[DeliveryState, int]
    picture_bytes: int


class MetricsService:
    """Reads them from the database when it is asked, so that no job is held up by being counted.

    Args:
        activity: tells of jobs.
        accounts: tells of charges.
        workforce: tells of workers.
        pictures: counts what is handed in.
        deliverer: counts webhooks.
        endpoint_ids: what is served.
        clock: of the stores.
        readers: as in the setting METRICS.
    """

    def __init__(
        self,
        activity: ActivityStore,
        accounts: AccountStore,
        workforce: Workforce,
        pictures: Pictures,
        deliverer: Deliverer,
        endpoint_ids: Collection[str],
        clock: Clock,
        readers: Literal["key", "open"],
    ) -> None:
        self._activity = activity
        self._accounts = accounts
        self._workforce = workforce
        self._pictures = pictures
        self._deliverer = deliverer
        self._endpoint_ids = endpoint_ids
        self._clock = clock
        self.is_open = readers == "open"
        self._counted_to_ms = self._since_ms = clock.now_ms()
        self._ended: Counter[tuple[str, JobStatus]] = Counter()
        self._retried = Counter(dict.fromkeys(endpoint_ids, 0))
        self._delays = {endpoint_id: Histogram() for endpoint_id in endpoint_ids}
        self._executions = {endpoint_id: Histogram() for endpoint_id in endpoint_ids}
        self._spent_before: Mapping[str, Decimal] | None = None
        self._latest: Metrics | None = None
        self._read_ms = 0
        # Two that ask at once must not count the same jobs twice.
        self._reading = asyncio.Lock()

    async def read(self) -> Metrics:
        """The figures, at most a second old. A job is counted some seconds after its end."""
        async with self._reading:
            asked_ms = self._clock.monotonic_ms()
            if self._latest is None or asked_ms - self._read_ms >= _KEEP_MS:
                self._latest, self._read_ms = await self._read(), asked_ms
            return self._latest

    async def _read(self) -> Metrics:
        now_ms = self._clock.now_ms()
        await self._count_ended(now_ms - _COMMIT_MS)
        views = await self._workforce.workers(*self._endpoint_ids)
        counts = count_workers(views)
        return Metrics(
            now_ms,
            await self._activity.queues(self._endpoint_ids),
            self._ended,
            self._retried,
            self._delays,
            self._executions,
            await self._spent_usd(now_ms),
            views,
            {name: getattr(counts, name) for name in counts.__slots__ if name != "ready"},
            self._workforce.lost_jobs,
            self._deliverer.outcomes,
            self._pictures.taken_bytes,
        )

    async def _count_ended(self, until_ms: int) -> None:
        # Not after the clock was set back, until it is where it was.
        if until_ms <= self._counted_to_ms:
            return
        for part in await self._activity.ended(self._endpoint_ids, self._counted_to_ms, until_ms):
            self._count(part)
        self._counted_to_ms = until_ms

    def _count(self, part: EndedJobs) -> None:
        self._ended[part.endpoint_id, part.status] += part.jobs
        self._retried[part.endpoint_id] += part.retries
        if part.status is JobStatus.COMPLETED and part.delay is not None and part.execution is not None:
            self._delays[part.endpoint_id].add(part.delay, part.jobs, part.delay_ms)
            self._executions[part.endpoint_id].add(part.execution, part.jobs, part.execution_ms)

    async def _spent_usd(self, now_ms: int) -> Mapping[str, Decimal]:
        # The database keeps sums by the hour: what the first one held before is taken off.
        since_ms = self._since_ms - self._since_ms % MS_PER_HOUR
        until_ms = now_ms - now_ms % MS_PER_HOUR + 2 * MS_PER_HOUR
        sums = dict.fromkeys(self._endpoint_ids, Decimal(0))
        for charge in await self._accounts.usage(since_ms, until_ms, _FOR_EVER_MS):
            if charge.endpoint_id in sums:
                sums[charge.endpoint_id] += charge.amount_usd
        if self._spent_before is None:
            self._spent_before = sums
        return {endpoint_id: spent - self._spent_before[endpoint_id] for endpoint_id, spent in sums.items()}
