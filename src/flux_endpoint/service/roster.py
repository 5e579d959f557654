"""Which workers there are and how they are: known to this gateway at once, to the others within seconds."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job
from flux_endpoint.stores.worker_protocol import WorkerRecord, WorkerState, WorkerStore

logger = logging.getLogger(__name__)

# A sighting is written this often at most: what other gateways see of a worker is that old.
_WRITE_PERIOD_MS: Final = 5_000
# A worker that has fallen silent for so many leases counts as unhealthy, then as gone.
_UNHEALTHY_AFTER_LEASES: Final = 2
_GONE_AFTER_LEASES: Final = 10
# Operators can see for a day that a worker has gone.
_FORGET_AFTER_MS: Final = 86_400_000
_FORGET_PERIOD_MS: Final = 3_600_000
# A process of Runpod's SDK asks for its next job at most 1.1 s after the last; a restart of one takes at least 2 s.
_RESTART_MS: Final = 1_500
_WITHHELD: Final = (WorkerState.UNHEALTHY, WorkerState.LEAVING)


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """How many workers of an endpoint are in each state, by Runpod's names; `ready` are idle or running."""

    idle: int = 0
    initializing: int = 0
    ready: int = 0
    running: int = 0
    throttled: int = 0
    unhealthy: int = 0


@dataclass(slots=True)
class Member:
    """A worker that this gateway has heard of. Times are those of `Clock.monotonic_ms`, but for one.

    Attributes:
        since_ms: when it came into its state, by `Clock.now_ms`: the gateways compare it.
        seen_ms: its last sign of life here.
        jobs: what this gateway handed to it and it has not ended, by id, as it was then.
        takes: how many `job-take` of it are held now.
        quiet_since_ms: when the last of them ended.
        has_ended: it asked to be restarted, and its process has ended since.
        written_ms: when the database was last told.
        is_unwritten: the database does not know its state yet.
        leaves: set while it is leaving.
        available: set while it is not withheld.
        writing: held while the database is told.
    """

    id: str
    endpoint_ids: frozenset[str]
    state: WorkerState
    since_ms: int
    seen_ms: int
    reason: str = ""
    fingerprint: str = ""
    jobs: dict[str, Job] = field(default_factory=dict)
    takes: int = 0
    quiet_since_ms: int = -_RESTART_MS
    has_ended: bool = False
    written_ms: int = -_WRITE_PERIOD_MS
    is_unwritten: bool = False
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    available: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_withheld(self) -> bool:
        """Whether it gets no jobs for now."""
        return self.state in _WITHHELD

    def record(self, now_ms: int) -> WorkerRecord:
        """What the other gateways shall know."""
        return WorkerRecord(
            self.id,
            self.endpoint_ids,
            self.state,
            self.reason,
            self.since_ms,
            now_ms,
            fingerprint=self.fingerprint,
        )


class Roster:
    """The workers of one gateway, shared with the other gateways on its database.

    Args:
        store: what the gateways share.
        clock: tells who has gone silent.
        lease_ms: how long a claim lasts unless renewed: the measure of silence.
    """

    def __init__(self, store: WorkerStore, clock: Clock, lease_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._lease_ms = lease_ms
        self._write_period_ms = min(_WRITE_PERIOD_MS, lease_ms // 3)
        self._members: dict[str, Member] = {}
        self._next_forget_ms = 0

    def get(self, worker_id: str) -> Member | None:
        """A worker this gateway has heard of; None for others."""
        return self._members.get(worker_id)

    async def see(self, worker_id: str, endpoint_ids: Collection[str]) -> Member:
        """Note a sign of life; a worker that nobody knows is starting."""
        member = self._members.get(worker_id) or await self._meet(worker_id, frozenset(endpoint_ids))
        member.seen_ms = self._clock.monotonic_ms()
        is_news = member.is_unwritten or member.endpoint_ids != frozenset(endpoint_ids)
        member.endpoint_ids = frozenset(endpoint_ids)
        if is_news or member.seen_ms - member.written_ms >= self._write_period_ms:
            await self._write(member)
        return member

    async def move(self, member: Member, state: WorkerState, reason: str = "") -> None:
        """Note the state of a worker; the other gateways can know on return."""
        member.seen_ms, member.since_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        _set_state(member, state, reason)
        member.is_unwritten = True
        await self._write(member)

    async def begin_take(self, member: Member, fingerprint: str = "") -> None:
        """A worker asks for a job. So it has started; or, when it was to be restarted, perhaps started anew.

        Args:
            member: who asks.
            fingerprint: of the kind of worker it is, told with its first take; empty with others.
        """
        has_news = bool(fingerprint) and fingerprint != member.fingerprint
        if has_news:
            logger.info("worker %s: fingerprint %s", member.id, fingerprint)
            member.fingerprint = fingerprint
        is_quiet = not member.takes and not member.jobs
        has_paused = is_quiet and self._clock.monotonic_ms() - member.quiet_since_ms >= _RESTART_MS
        has_restarted = member.state is WorkerState.LEAVING and (member.has_ended or has_paused)
        if member.state is WorkerState.STARTING or has_restarted:
            await self.move(member, WorkerState.READY)
        elif has_news:
            await self._write(member)

    @contextlib.contextmanager
    def holding(self, member: Member, *, is_take: bool) -> Iterator[None]:
        """While a call of a worker is held. When a leaving worker drops one, its process has ended."""
        member.takes += is_take
        try:
            yield
        except asyncio.CancelledError:
            member.has_ended = member.state is WorkerState.LEAVING
            raise
        finally:
            member.takes -= is_take
            if is_take:
                member.quiet_since_ms = self._clock.monotonic_ms()

    async def drop(self, worker_id_prefix: str) -> None:
        """Forget the workers whose id starts so: they are known to be gone."""
        for worker_id in [worker_id for worker_id in self._members if worker_id.startswith(worker_id_prefix)]:
            del self._members[worker_id]
        await self._store.forget_workers(worker_id_prefix, self._clock.now_ms() + 1)

    async def sweep(self) -> None:
        """Forget workers that have been silent for long."""
        passed_ms = self._clock.monotonic_ms()
        gone_ms = passed_ms - _GONE_AFTER_LEASES * self._lease_ms
        # Whoever holds a call is not silent.
        self._members = {
            worker_id: member for worker_id, member in self._members.items() if member.seen_ms > gone_ms or member.takes
        }
        if passed_ms >= self._next_forget_ms:
            self._next_forget_ms = passed_ms + _FORGET_PERIOD_MS
            await self._store.forget_workers("", self._clock.now_ms() - _FORGET_AFTER_MS)

    def clock_moved(self, by_ms: int) -> None:
        """The clock was set forward, or back (below 0), and all that is kept with it."""
        for member in self._members.values():
            member.since_ms += by_ms

    async def counts(self, endpoint_ids: Collection[str]) -> WorkerCounts:
        """How many workers of any of these endpoints are in each state, at all gateways together."""
        now_ms, passed_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        records = await self._store.list_workers(now_ms - _GONE_AFTER_LEASES * self._lease_ms)
        running_jobs = await self._store.count_running_jobs()
        idle = initializing = running = unhealthy = 0
        for record in records:
            member = self._members.get(record.id)
            silent_ms = now_ms - record.seen_ms
            if member is not None:
                silent_ms = min(silent_ms, passed_ms - member.seen_ms)
            if record.endpoint_ids.isdisjoint(endpoint_ids):
                continue
            if record.state is WorkerState.STARTING or record.state is WorkerState.LEAVING:
                # Also silent ones: a large model takes minutes to load.
                initializing += 1
            elif record.state is WorkerState.UNHEALTHY or silent_ms > _UNHEALTHY_AFTER_LEASES * self._lease_ms:
                unhealthy += 1
            elif running_jobs.get(record.id):
                running += 1
            else:
                idle += 1
        return WorkerCounts(
            idle=idle, initializing=initializing, ready=idle + running, running=running, unhealthy=unhealthy
        )

    async def serves(self, endpoint_id: str) -> bool:
        """Whether any worker of an endpoint is at work, idle or starting: a job that waits there may yet run."""
        counts = await self.counts([endpoint_id])
        return counts.ready + counts.initializing > 0

    async def details(self, endpoint_ids: Collection[str]) -> list[WorkerRecord]:
        """What the workers of any of these endpoints last said of themselves, at all gateways together, by id."""
        records = await self._store.list_workers(self._clock.now_ms() - _GONE_AFTER_LEASES * self._lease_ms)
        return [record for record in records if not record.endpoint_ids.isdisjoint(endpoint_ids)]

    async def _meet(self, worker_id: str, endpoint_ids: frozenset[str]) -> Member:
        now_ms = self._clock.now_ms()
        record = await self._store.get_worker(worker_id)
        member = Member(worker_id, endpoint_ids, WorkerState.STARTING, now_ms, self._clock.monotonic_ms())
        member.available.set()
        if record is None:
            member.is_unwritten = True
        else:
            _adopt(member, record)
            # Another gateway saw it last, or this one before a restart. Had it gone on asking, that were less long ago.
            member.has_ended = now_ms - record.seen_ms >= self._write_period_ms + _RESTART_MS
        # Two calls of a new worker may come at once.
        return self._members.setdefault(worker_id, member)

    async def _write(self, member: Member) -> None:
        # One at a time: what is older must not be written last.
        async with member.writing:
            member.written_ms = member.seen_ms
            with_state, member.is_unwritten = member.is_unwritten, False
            try:
                record = await self._store.note_worker(member.record(self._clock.now_ms()), with_state=with_state)
            except BaseException:
                member.is_unwritten = with_state
                raise
        # What is older is what the database held before a `move` that came between.
        is_other = (record.state, record.reason) != (member.state, member.reason)
        if not with_state and is_other and record.since_ms >= member.since_ms:
            _adopt(member, record)


def _adopt(member: Member, record: WorkerRecord) -> None:
    member.since_ms = record.since_ms
    member.fingerprint = record.fingerprint or member.fingerprint
    _set_state(member, record.state, record.reason)


def _set_state(member: Member, state: WorkerState, reason: str) -> None:
    member.state, member.reason, member.has_ended = state, reason, False
    for event, is_set in ((member.leaves, state is WorkerState.LEAVING), (member.available, not member.is_withheld)):
        if is_set:
            event.set()
        else:
            event.clear()
