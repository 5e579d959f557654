"""Which workers there are and how they are: known to this gateway at once, to the others within seconds."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.affinity import Affinity, lora_set
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job
from flux_endpoint.core.worker import WorkerRecord, WorkerState
from flux_endpoint.service.known_worker import RESTART_MS, Condition, KnownWorker, condition_of, why_unhealthy
from flux_endpoint.service.worker_speed import throttled
from flux_endpoint.stores.workers.protocol import WorkerStore

logger = logging.getLogger(__name__)

# A sighting is written this often at most: what other gateways see of a worker is that old.
_WRITE_PERIOD_MS: Final = 5_000
# A worker that has fallen silent for so many leases counts as unhealthy, then as gone.
_UNHEALTHY_AFTER_LEASES: Final = 2
_GONE_AFTER_LEASES: Final = 10
# Operators can see for a day that a worker has gone.
_FORGET_AFTER_MS: Final = 86_400_000
_FORGET_PERIOD_MS: Final = 3_600_000
# What workers of other gateways have said of their speed counts here so late at most.
_COMPARE_PERIOD_MS: Final = 60_000
# However short the leases are: our own workers ping every 10 s, and a busy machine may keep one waiting.
_LEAST_PATIENCE_MS: Final = 25_000
# Other gateways are told at once when a worker asks for a job after having not for so long.
_ASKED_NEWS_MS: Final = 10_000
# A worker that has said that its device failed ends by itself, unless the device holds it.
_LAST_WORDS_MS: Final = 10_000
_HUNG_UP: Final = "it hung up and only pings since: its process has ended, as it seems"


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """How many workers of an endpoint are in each state, by Runpod's names; `ready` are idle or running."""

    idle: int = 0
    initializing: int = 0
    ready: int = 0
    running: int = 0
    throttled: int = 0
    unhealthy: int = 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, as `/health` tells of it.

    Attributes:
        reason: why it does what it does; empty when there is nothing to say.
        fingerprint: of the kind of worker it is; empty when it does not say.
        memory: how it keeps its models in memory; empty when it has not said so to this gateway.
        steps: of all pictures that it has handed in to this gateway.
    """

    id: str
    condition: Condition
    reason: str
    fingerprint: str
    memory: str = ""
    steps: int = 0


class WorkerRegistry:
    """The workers of one gateway, shared with the other gateways on its database.

    Whether any job with LoRAs was handed out here is the attribute `knows_loras`: as long as not, none has an affinity.

    Args:
        store: what the gateways share.
        clock: tells who has gone silent.
        lease_ms: how long a claim lasts unless renewed: the measure of silence.
    """

    def __init__(self, store: WorkerStore, clock: Clock, lease_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._lease_ms = lease_ms
        self._patience_ms = _UNHEALTHY_AFTER_LEASES * lease_ms
        self._write_period_ms = min(_WRITE_PERIOD_MS, lease_ms // 3)
        self._workers: dict[str, KnownWorker] = {}
        self._next_forget_ms = self._next_compare_ms = 0
        self.knows_loras = False
        # Set once any worker has asked for a job.
        self.has_served = asyncio.Event()

    def get(self, worker_id: str) -> KnownWorker | None:
        """A worker this gateway has heard of; None for others."""
        return self._workers.get(worker_id)

    async def see(self, worker_id: str, endpoint_ids: Collection[str], *, is_ping: bool = False) -> KnownWorker:
        """Note a sign of life; a worker that nobody knows is starting.

        A ping is a sign of its process only as long as it has not hung up: the SDK pings from a process of its own.
        """
        worker = self._workers.get(worker_id) or await self._meet(worker_id, frozenset(endpoint_ids))
        worker.seen_ms = worker.called_ms = self._clock.monotonic_ms()
        if worker.takes:
            worker.asked_ms = self._clock.now_ms()
        if not is_ping:
            worker.hung_up_ms = None
            if worker.state is WorkerState.LOST:
                logger.warning("worker %s is back", worker.id)
                await self.move(worker, WorkerState.READY)
        is_news = worker.is_unwritten or worker.endpoint_ids != frozenset(endpoint_ids)
        worker.endpoint_ids = frozenset(endpoint_ids)
        if is_news or worker.written_ms is None or worker.seen_ms - worker.written_ms >= self._write_period_ms:
            await self._write(worker)
        return worker

    def known(self) -> Sequence[KnownWorker]:
        """All workers that this gateway has heard of."""
        return list(self._workers.values())

    def hear(self, worker_id: str) -> KnownWorker | None:
        """Note that a worker reports something; None for one that this gateway has not heard of."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.seen_ms = worker.called_ms = self._clock.monotonic_ms()
            worker.hung_up_ms = None
        return worker

    async def expect(self, worker_id: str, endpoint_ids: Collection[str], reason: str) -> None:
        """Note that this gateway starts a worker, and what became of the one before it."""
        worker = await self._meet(worker_id, frozenset(endpoint_ids))
        worker.is_ours, worker.reason, worker.is_unwritten = True, reason, True
        await self._write(worker)

    async def move(self, worker: KnownWorker, state: WorkerState, reason: str = "") -> None:
        """Note the state of a worker; the other gateways can know on return."""
        worker.seen_ms, worker.since_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        worker.set_state(state, reason)
        worker.is_unwritten = True
        await self._write(worker)

    async def begin_take(self, worker_id: str, endpoint_ids: Collection[str], fingerprint: str = "") -> KnownWorker:
        """A worker asks for a job. So it has started; or, when it was to be restarted, perhaps started anew.

        Args:
            worker_id: who asks.
            endpoint_ids: the endpoints it serves.
            fingerprint: of the kind of worker it is, told with its first take; empty with others.
        """
        worker = await self.see(worker_id, endpoint_ids)
        has_news = bool(fingerprint) and fingerprint != worker.fingerprint
        if has_news:
            logger.info("worker %s: fingerprint %s", worker.id, fingerprint)
            worker.fingerprint = fingerprint
        is_quiet = not worker.takes and not worker.jobs
        has_paused = is_quiet and worker.seen_ms - worker.quiet_since_ms >= RESTART_MS
        has_restarted = worker.state is WorkerState.LEAVING and (worker.has_ended or has_paused)
        self.has_served.set()
        now_ms = self._clock.now_ms()
        is_late_news = now_ms - worker.asked_ms >= _ASKED_NEWS_MS
        worker.asked_ms, worker.handed_ms = now_ms, None
        if worker.state is WorkerState.STARTING or has_restarted:
            worker.lora_sets = ()
            await self.move(worker, WorkerState.READY)
        elif has_news or is_late_news:
            await self._write(worker)
        return worker

    @contextlib.contextmanager
    def holding(self, worker: KnownWorker, *, is_take: bool, is_free: bool = False) -> Iterator[None]:
        """While a call of a worker is held. When a leaving worker drops one, its process has ended."""
        if is_take and worker.takes and not worker.is_shared:
            worker.is_shared = True
            logger.warning("worker %s asks for jobs twice at once: do two processes use its name?", worker.id)
        worker.takes += is_take
        worker.idle_takes += is_free
        worker.stops += not is_take
        try:
            yield
        except asyncio.CancelledError:
            worker.has_ended = worker.state is WorkerState.LEAVING
            worker.hung_up_ms = self._clock.monotonic_ms()
            raise
        finally:
            worker.takes -= is_take
            worker.idle_takes -= is_free
            worker.stops -= not is_take
            worker.seen_ms = self._clock.monotonic_ms()
            if not is_take:
                worker.stops_ended_ms = worker.seen_ms
            else:
                worker.quiet_since_ms = worker.seen_ms
                if worker.handed_ms is None:
                    worker.asked_ms = self._clock.now_ms()

    def is_idle(self, endpoint_ids: Collection[str]) -> bool:
        """Whether a worker of one of these endpoints waits here for a job, and runs none; a throttled one is none."""
        idle = (worker for worker in self._workers.values() if worker.idle_takes and not worker.is_throttled)
        return any(not worker.endpoint_ids.isdisjoint(endpoint_ids) for worker in idle)

    def note_loras(self, worker: KnownWorker, job: Job) -> None:
        """A worker was handed a job that has LoRAs, as it seems: an input of a custom endpoint may hold anything."""
        if loras := lora_set(job.endpoint_id, job.input):
            worker.note_loras(loras)
            self.knows_loras = True

    def affinity(self, worker: KnownWorker) -> Affinity | None:
        """What a worker has of LoRAs, and what it leaves to idle ones that wait here; None for nothing at all."""
        idle = (other for other in self._workers.values() if other.idle_takes and not other.is_throttled)
        ready = (other for other in idle if other.available.is_set())
        sets = {loras for other in ready for loras in other.lora_sets if loras[0] in other.endpoint_ids}
        left = sets.difference(worker.lora_sets)
        return Affinity(worker.lora_sets, frozenset(left)) if worker.lora_sets or left else None

    async def has_hung_up(self, worker: KnownWorker) -> bool:
        """Whether a worker that pings dropped its call a lease ago and has not called since: then it is lost."""
        if worker.state is WorkerState.LOST:
            return True
        if worker.hung_up_ms is None or worker.takes or worker.stops:
            return False
        if self._clock.monotonic_ms() - worker.hung_up_ms < self._lease_ms:
            return False
        logger.error("worker %s is given up: %s", worker.id, _HUNG_UP)
        await self.move(worker, WorkerState.LOST, _HUNG_UP)
        return True

    async def note_step(self, worker_id: str, step_us: int) -> None:
        """A worker tells how fast it is; again and again, as a rule the same."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.step_us != step_us:
            logger.info("worker %s: its step takes %.1f ms", worker_id, step_us / 1_000)
            worker.step_us = step_us
            await self._write(worker)
            await self._compare()

    async def part(self, worker_id: str) -> None:
        """Forget a worker that leaves by its own account; what a call of it that is still held claims is given back."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            worker.set_state(WorkerState.DISMISSED, "")
        await self._store.forget_worker(worker_id)

    async def drop(self, worker_id_prefix: str) -> None:
        """Forget the workers whose id starts so: they are known to be gone."""
        for worker_id in [worker_id for worker_id in self._workers if worker_id.startswith(worker_id_prefix)]:
            del self._workers[worker_id]
        await self._store.forget_workers(worker_id_prefix, self._clock.now_ms() + 1)

    async def sweep(self) -> None:
        """Forget workers that have been silent for long; tell the others of those that load and cannot speak yet."""
        passed_ms = self._clock.monotonic_ms()
        gone_ms = _GONE_AFTER_LEASES * self._lease_ms
        for worker in list(self._workers.values()):
            if worker.takes or worker.jobs or worker.state is not WorkerState.READY:
                worker.free_since_ms = passed_ms
            if worker.is_ours and worker.state in (WorkerState.STARTING, WorkerState.UNHEALTHY):
                # Its process is known to live, or why there is none.
                await self.see(worker.id, worker.endpoint_ids, is_ping=True)
        self._workers = {
            worker_id: worker for worker_id, worker in self._workers.items() if worker.silent_ms(passed_ms) < gone_ms
        }
        if passed_ms >= self._next_compare_ms and any(worker.step_us for worker in self._workers.values()):
            await self._compare()
        if passed_ms >= self._next_forget_ms:
            self._next_forget_ms = passed_ms + _FORGET_PERIOD_MS
            await self._store.forget_workers("", self._clock.now_ms() - _FORGET_AFTER_MS)

    def stuck(self, stop_grace_ms: int) -> Iterator[tuple[KnownWorker, str]]:
        """Workers of this gateway that must be ended, and why."""
        passed_ms, now_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        for worker in list(self._workers.values()):
            if not worker.is_ours:
                continue
            # One that has never asked says why it will end by itself, and not be started again.
            if worker.state is WorkerState.UNHEALTHY and worker.asked_ms and now_ms - worker.since_ms > _LAST_WORDS_MS:
                yield worker, worker.reason
            if worker.state is not WorkerState.READY:
                continue
            silent_ms, free_ms = passed_ms - worker.called_ms, passed_ms - worker.free_since_ms
            if silent_ms > max(self._lease_ms, _LEAST_PATIENCE_MS):
                yield worker, f"it has been silent for {silent_ms / 1_000:.0f} s"
            elif not (worker.takes or worker.jobs) and free_ms > stop_grace_ms:
                yield worker, f"its job is over, and it has not asked for another for {free_ms / 1_000:.0f} s"

    def held(self) -> Sequence[tuple[KnownWorker, Job]]:
        """What this gateway's workers hold, as it was when it was handed to them."""
        return [(worker, job) for worker in self._workers.values() for job in worker.jobs.values()]

    def left_with(self) -> Iterator[tuple[KnownWorker, list[str]]]:
        """Workers that left in good order with jobs they had just been handed, and these jobs."""
        now_ms, passed_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        for worker in list(self._workers.values()):
            if worker.jobs and (job_ids := worker.left_with(now_ms, passed_ms, self._lease_ms)):
                yield worker, job_ids

    def clock_moved(self, by_ms: int) -> None:
        """The clock was set forward, or back (below 0), and all that is kept with it."""
        for worker in self._workers.values():
            worker.since_ms += by_ms
            worker.asked_ms += by_ms
            if worker.handed_ms is not None:
                worker.handed_ms += by_ms

    async def list(self, endpoint_ids: Collection[str]) -> Sequence[WorkerView]:
        """The workers of any of these endpoints, at all gateways together, by id."""
        now_ms, passed_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        records = await self._records()
        running_jobs = await self._store.count_running_jobs()
        slow, views = throttled(records), []
        for record in records:
            if record.endpoint_ids.isdisjoint(endpoint_ids) or record.state is WorkerState.DISMISSED:
                continue
            worker, jobs = self._workers.get(record.id), running_jobs.get(record.id, 0)
            condition = condition_of(record, worker, jobs, now_ms, passed_ms, self._patience_ms)
            own = (worker.memory, worker.steps) if worker else ()
            reason = slow.get(record.id) or record.reason
            if record.id in slow and condition in (Condition.IDLE, Condition.RUNNING):
                condition = Condition.THROTTLED
            if condition is Condition.UNHEALTHY and not reason:
                reason = why_unhealthy(record, worker, now_ms, passed_ms)
            views.append(WorkerView(record.id, condition, reason, record.fingerprint, *own))
        return views

    async def counts(self, endpoint_ids: Collection[str]) -> WorkerCounts:
        """How many workers of any of these endpoints are in each state, at all gateways together."""
        return count_workers(await self.list(endpoint_ids))

    async def serves(self, endpoint_id: str) -> bool:
        """Whether any worker of an endpoint is at work, idle or starting: a job that waits there may yet run."""
        counts = await self.counts([endpoint_id])
        return counts.ready + counts.initializing + counts.throttled > 0

    async def _records(self) -> Sequence[WorkerRecord]:
        """Of all gateways together, those that are not gone."""
        return await self._store.list_workers(self._clock.now_ms() - _GONE_AFTER_LEASES * self._lease_ms)

    async def _compare(self) -> None:
        """Note who is slow among those that ask here."""
        self._next_compare_ms = self._clock.monotonic_ms() + _COMPARE_PERIOD_MS
        slow = throttled(await self._records())
        for worker in self._workers.values():
            was_throttled, worker.is_throttled = worker.is_throttled, worker.id in slow
            if worker.is_throttled and not was_throttled:
                logger.warning("worker %s is throttled, and gets jobs last: %s", worker.id, slow[worker.id])
            elif was_throttled and not worker.is_throttled:
                logger.info("worker %s is throttled no longer", worker.id)

    async def _meet(self, worker_id: str, endpoint_ids: frozenset[str]) -> KnownWorker:
        now_ms = self._clock.now_ms()
        record = await self._store.get_worker(worker_id)
        passed_ms = self._clock.monotonic_ms()
        worker = KnownWorker(worker_id, endpoint_ids, WorkerState.STARTING, now_ms, passed_ms, passed_ms)
        worker.available.set()
        if record is None:
            worker.is_unwritten = True
        else:
            worker.adopt(record)
            # Another gateway saw it last, or this one before a restart. Had it gone on asking, that were less long ago.
            worker.has_ended = now_ms - record.seen_ms >= self._write_period_ms + RESTART_MS
        # Two calls of a new worker may come at once.
        return self._workers.setdefault(worker_id, worker)

    async def _write(self, worker: KnownWorker) -> None:
        # One at a time: what is older must not be written last.
        async with worker.writing:
            worker.written_ms = worker.seen_ms
            with_state, worker.is_unwritten = worker.is_unwritten, False
            try:
                record = await self._store.note_worker(worker.record(self._clock.now_ms()), with_state=with_state)
            except BaseException:
                worker.is_unwritten = with_state
                raise
        # What is older is what the database held before a `move` that came between.
        is_other = (record.state, record.reason) != (worker.state, worker.reason)
        if not with_state and is_other and record.since_ms >= worker.since_ms:
            worker.adopt(record)


def count_workers(views: Collection[WorkerView]) -> WorkerCounts:
    """How many of these workers are in each state."""
    tally = Counter(view.condition for view in views)
    idle, running = tally[Condition.IDLE], tally[Condition.RUNNING]
    return WorkerCounts(
        idle=idle,
        initializing=tally[Condition.INITIALIZING],
        ready=idle + running,
        running=running,
        throttled=tally[Condition.THROTTLED],
        unhealthy=tally[Condition.UNHEALTHY],
    )
