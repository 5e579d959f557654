"""Keeps as many workers as there is work for: asks, decides, tells the fleet."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.fleet.protocol import Fleet
from flux_endpoint.service.autoscaler import Decision, Demand, decide, share_out
from flux_endpoint.stores.fleets.protocol import FleetStore, Leadership, Pool, Work

logger = logging.getLogger(__name__)

# The first job of a quiet server waits for this on top of the start of a worker.
_LOOK_S: Final = 1.0
# A server that has not told of its workers for so long is gone.
_GONE_MS: Final = 10_000
_FORGET_MS: Final = 3_600_000


class Scaler:
    """Looks once a second, for as long as the gateway runs.

    Of the servers on one database one decides how many workers there are in all. Where each server has workers of its
    own, each tells of them and does as it is told; a fleet that all servers share is told by the one that decides.

    Args:
        fleet: started by the caller.
        store: shared by the servers.
        leadership: says who decides.
        rules: of this server, or of the shared fleet.
        endpoint_ids: what the workers serve.
        name: of this server.
        clock: tells how long jobs have waited.
        sleep: waits between two looks; tests hand in their own.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: FleetStore,
        leadership: Leadership,
        rules: ScalingRules,
        endpoint_ids: Collection[str],
        name: str,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._leadership = leadership
        self._rules = rules
        self._endpoint_ids = endpoint_ids
        self._name = name
        self._clock = clock
        self._sleep = sleep
        # Of who decides only: whoever takes over begins with what is there.
        self._last: Decision | None = None

    async def run(self) -> None:
        """Look until cancelled. While the database is away, everything stays as it is."""
        try:
            while True:
                try:
                    await self.look()
                except StoreUnavailable as error:
                    # That the database does not answer has been logged.
                    logger.debug("no look at the queue, will be tried again: %s", error)
                await self._sleep(_LOOK_S)
        finally:
            await self._leadership.close()

    async def look(self) -> None:
        """Decide, if it is upon this server to, and have as many workers as was decided."""
        decides = await self._leadership.is_mine()
        if not decides:
            self._last = None
            if self._fleet.is_shared:
                return
        # Enough to need every worker there may be.
        per_worker = math.ceil(self._rules.threshold) if self._rules.by is ScaleBy.REQUEST_COUNT else 1
        since_ms = self._clock.now_ms() - round(self._rules.threshold * 1_000)
        pools = await self._pools() if decides and not self._fleet.is_shared else []
        limit = per_worker * (sum(pool.max_workers for pool in pools) + self._rules.max_workers) + 1
        work = await self._store.work(self._endpoint_ids, since_ms, limit)
        mine, busy = await self._mine(work)
        if self._fleet.is_shared:
            wanted: int | None = self._decide(work, [mine])
        else:
            wanted = await self._store.note_pool(mine, self._clock.now_ms())
            if decides:
                wanted = await self._share_out(work, [*(pool for pool in pools if pool.name != self._name), mine])
        if wanted is not None:
            # It may have been decided when the settings of this server were others.
            wanted = max(self._rules.min_workers, min(self._rules.max_workers, wanted))
            await self._fleet.scale(wanted, busy)

    async def _pools(self) -> list[Pool]:
        return list(await self._store.pools(self._clock.now_ms() - _GONE_MS))

    async def _mine(self, work: Work) -> tuple[Pool, Collection[str]]:
        kept = [worker.worker_id for worker in await self._fleet.list() if not worker.is_leaving]
        busy = work.running.keys() & set(kept)
        running = sum(work.running[worker_id] for worker_id in busy)
        rules = self._rules
        return Pool(self._name, rules.min_workers, rules.max_workers, len(kept), len(busy), running), busy

    async def _share_out(self, work: Work, pools: list[Pool]) -> int:
        shares = share_out(self._decide(work, pools), pools)
        await self._store.share_out(shares, self._clock.now_ms() - _FORGET_MS)
        return shares[self._name]

    def _decide(self, work: Work, pools: list[Pool]) -> int:
        """How many workers all of these pools are to have together."""
        demand = Demand(
            work.waiting, work.overdue, sum(pool.running for pool in pools), sum(pool.busy for pool in pools)
        )
        rules = replace(
            self._rules,
            min_workers=sum(pool.min_workers for pool in pools),
            max_workers=sum(pool.max_workers for pool in pools),
        )
        last = self._last or Decision(sum(pool.kept for pool in pools))
        decision = self._last = decide(last, demand, self._clock.monotonic_ms() / 1_000, rules)
        if decision.workers != last.workers:
            logger.info(
                "%d workers from now on, not %d: %d jobs wait, %d of them for too long, and %d workers are busy",
                decision.workers,
                last.workers,
                demand.waiting,
                demand.overdue,
                demand.busy,
            )
        return decision.workers
