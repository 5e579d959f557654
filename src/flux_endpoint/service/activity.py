"""How the server is doing: figures of what it did over a while, for its operator."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.activity import Activity
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.periods import MS_PER_DAY, MS_PER_HOUR, Period, from_ms
from flux_endpoint.core.webhook import PausedReceiver
from flux_endpoint.service.billing import Billing
from flux_endpoint.service.endpoint import Endpoints
from flux_endpoint.service.worker_registry import WorkerCounts
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.activity.protocol import ActivityStore
from flux_endpoint.stores.webhooks.protocol import WebhookStore

_LATEST_JOBS: Final = 20


class ActivityRange(StrEnum):
    """For how long back; the values are the wire's `range`."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"

    @property
    def bucket_ms(self) -> int:
        """Milliseconds of each piece that it is cut into; pieces begin at multiples of this, UTC."""
        return _SHAPES[self][0]

    @property
    def buckets(self) -> int:
        """How many pieces it has."""
        return _SHAPES[self][1]


_SHAPES: Final = {
    ActivityRange.HOUR: (60_000, 60),
    ActivityRange.DAY: (MS_PER_HOUR // 2, 48),
    ActivityRange.WEEK: (3 * MS_PER_HOUR, 56),
    ActivityRange.MONTH: (MS_PER_DAY, 30),
}


@dataclass(frozen=True, slots=True)
class Spend:
    """What one key was charged on one day (UTC)."""

    day: str
    key_id: str
    key_name: str
    jobs: int
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class ActivityReport:
    """What some endpoints did from `start_ms` to `end_ms`, which is not included and lies up to a bucket ahead.

    Attributes:
        spend: oldest first, whole days.
        jobs: the newest, newest first, whenever they were made.
        paused: receivers of webhooks that get none for now, the longest failing first.
    """

    start_ms: int
    end_ms: int
    endpoint_ids: Sequence[str]
    activity: Activity
    workers: WorkerCounts
    spend: Sequence[Spend]
    jobs: Sequence[Job]
    paused: Sequence[PausedReceiver]


class ActivityService:
    """Reads, and keeps what workers say of their start."""

    def __init__(
        self,
        store: ActivityStore,
        webhooks: WebhookStore,
        endpoints: Endpoints,
        workforce: Workforce,
        billing: Billing,
        clock: Clock,
    ) -> None:
        self._store = store
        self._webhooks = webhooks
        self._endpoints = endpoints
        self._workforce = workforce
        self._billing = billing
        self._clock = clock

    async def report(
        self, key: ApiKey, endpoint_id: str | None, wanted: ActivityRange, statuses: Collection[JobStatus] = ()
    ) -> ActivityReport:
        """What a key may see of what the server did.

        A key for some endpoints sees its own jobs, charges and webhooks on these; any other key sees everything.

        Args:
            key: who asks; it opens the endpoint.
            endpoint_id: the only endpoint to tell of, which is served here; None for all that the key opens.
            wanted: how far back.
            statuses: of the latest jobs, only those in these states; empty for all.
        """
        opened = key.limits.endpoint_ids
        served = [spec.endpoint_id for spec in self._endpoints.specs]
        ids = [one for one in served if (opened is None or one in opened) and endpoint_id in (None, one)]
        now_ms = self._clock.now_ms()
        end_ms = now_ms - now_ms % wanted.bucket_ms + wanted.bucket_ms
        start_ms = end_ms - wanted.buckets * wanted.bucket_ms
        return ActivityReport(
            start_ms,
            end_ms,
            ids,
            await self._store.activity(ids, start_ms, end_ms, wanted.bucket_ms, key.sees_only),
            await self._workforce.counts(*ids),
            await self._spend(key.sees_only, ids, start_ms, end_ms),
            await self._latest(key, ids, statuses),
            await self._webhooks.paused_receivers(key.sees_only),
        )

    async def note_cold_start(self, worker_id: str, endpoint_ids: Collection[str], duration_ms: int) -> None:
        """A worker has its first free slot; it says how long ago its process was started."""
        served = {spec.endpoint_id for spec in self._endpoints.specs} & set(endpoint_ids)
        await self._store.note_cold_start(worker_id, served, duration_ms, self._clock.now_ms())

    async def _spend(self, key_id: str | None, endpoint_ids: Sequence[str], start_ms: int, end_ms: int) -> list[Spend]:
        days = self._billing.range_of(Period.DAY, from_ms(start_ms), from_ms(end_ms))
        sums: dict[tuple[str, str, str], tuple[int, Decimal]] = {}
        for record in await self._billing.usage(days, key_id):
            if record.endpoint_id in endpoint_ids:
                place = (f"{record.start:%Y-%m-%d}", record.key_id, record.key_name)
                jobs, amount_usd = sums.get(place, (0, Decimal(0)))
                sums[place] = (jobs + record.jobs, amount_usd + record.amount_usd)
        return [Spend(*place, *total) for place, total in sums.items()]

    async def _latest(self, key: ApiKey, endpoint_ids: Sequence[str], statuses: Collection[JobStatus]) -> list[Job]:
        jobs = [
            job
            for endpoint_id in endpoint_ids
            for job in (await self._endpoints.opened(endpoint_id, key).recent(statuses, _LATEST_JOBS, None))[0]
        ]
        return sorted(jobs, key=lambda job: job.created_ms, reverse=True)[:_LATEST_JOBS]
