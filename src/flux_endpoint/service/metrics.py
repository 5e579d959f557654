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
from flux_endpoint.core.webhook import DeliveryState
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.spend_sum import SpendSum
from flux_endpoint.service.webhooks import Deliverer
from flux_endpoint.service.worker_registry import WorkerView, count_workers
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.accounts.protocol import AccountStore
from flux_endpoint.stores.activity.protocol import ActivityStore

# Whoever asks sooner gets the same figures.
_KEEP_MS: Final = 1_000
# A job's end is stamped before it is committed: what ended later than this ago may not be visible yet.
_COMMIT_MS: Final = 5_000


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
        spent_usd: by endpoint, what was charged since these figures were first read.
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
        self._workforce = workforce
        self._pictures = pictures
        self._deliverer = deliverer
        self._endpoint_ids = endpoint_ids
        self._clock = clock
        self.is_open = readers == "open"
        self._counted_to_ms = clock.now_ms()
        # All that there may be: of a counter that comes with its first event, Prometheus sees no increase.
        ends = [(endpoint_id, status) for endpoint_id in endpoint_ids for status in JobStatus if status.is_terminal]
        self._ended = Counter(dict.fromkeys(ends, 0))
        self._retried = Counter(dict.fromkeys(endpoint_ids, 0))
        self._delays = {endpoint_id: Histogram() for endpoint_id in endpoint_ids}
        self._executions = {endpoint_id: Histogram() for endpoint_id in endpoint_ids}
        self._spend = SpendSum(accounts, endpoint_ids)
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

    def clock_moved(self, by_ms: int) -> None:
        """The clock was set forward, or back (below 0), and with it the ends of all jobs that can still be read.

        Those that cannot keep theirs: of a clock that is set back by more than jobs can be read, some count twice.
        """
        self._counted_to_ms += by_ms
        self._spend.clock_moved(by_ms)

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
            await self._spend.read(now_ms),
            views,
            {name: getattr(counts, name) for name in counts.__slots__ if name != "ready"},
            self._workforce.lost_jobs,
            self._deliverer.outcomes,
            self._pictures.taken_bytes,
        )

    async def _count_ended(self, until_ms: int) -> None:
        # Not between a jump of the clock back and `clock_moved`.
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
