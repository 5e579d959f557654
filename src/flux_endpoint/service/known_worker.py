"""One worker as a gateway knows it, and what its calls tell (docs/decisions/0024-what-a-ping-says.md)."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from flux_endpoint.core.affinity import LoraSet
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.job import Job
from flux_endpoint.core.worker import WorkerRecord, WorkerState

_WITHHELD: Final = (WorkerState.UNHEALTHY, WorkerState.LEAVING, WorkerState.DISMISSED)
# A process of Runpod's SDK asks for its next job at most 1.1 s after the last; a restart of one takes at least 2 s.
RESTART_MS: Final = 1_500
# Between two takes of a worker that waits for jobs. Runpod's SDK pauses for 1.1 s at most.
_LATELY_MS: Final = 3_000
# The same, of a worker that asks another gateway: that one may hold its call for 20 s, and writes every 5.
_LATELY_ELSEWHERE_MS: Final = 30_000
# Between two calls on the stop channel, of which Runpod's SDK always holds one but for a pause of a second.
_STOP_PAUSE_MS: Final = 2_500
# A process of Runpod's SDK that was asked to leave ends when its call on the stop channel does: after 20 s at most.
_LEFT_AT_ONCE_MS: Final = 21_000
# How often a job is handed on unblamed: a job that makes its worker leave so must not go round for ever.
_MAX_UNBLAMED: Final = 2
# So many sets of LoRAs count as what it has: how many it keeps hangs on their size, and on `LORA_CACHE_MB` there.
_MAX_LORA_SETS: Final = 4
# All workers ping every 10 s, job or none; a busy machine may keep one waiting, and other gateways hear 5 s later.
_SILENT_MS: Final = 25_000
# A ping that was sent before the worker asked for its next job has arrived by then.
_PING_MS: Final = 5_000


class Condition(StrEnum):
    """What a worker does, by Runpod's names."""

    IDLE = "idle"
    INITIALIZING = "initializing"
    RUNNING = "running"
    THROTTLED = "throttled"
    UNHEALTHY = "unhealthy"


@dataclass(slots=True)
class KnownWorker:
    """A worker that this gateway has heard of. Times are those of `Clock.monotonic_ms`, but for three.

    Attributes:
        since_ms: when it came into its state, by `Clock.now_ms`: the gateways compare it.
        seen_ms: its last sign of life here.
        called_ms: when it last began a call. The end of one that was held is no sign of a process that is stopped.
        memory: how it keeps its models in memory; empty when it has not said so here.
        step_us: what one step of its calibration took; None when it has not said.
        is_throttled: it is much slower than others of its kind; some seconds old at most.
        can_unload: it listens for being asked to give its memory back.
        is_ours: this gateway starts and ends its process.
        asked_ms: when a take of its was last open here, by `Clock.now_ms`; 0 for never.
        handed_ms: when this gateway handed it a job, by `Clock.now_ms`; None when it has asked here since, or never
            got one.
        jobs: what this gateway handed to it and it has not ended, by id, as it was then.
        lora_sets: those of the jobs that this gateway handed to it lately, the latest first.
        takes: how many `job-take` of it are held now.
        idle_takes: how many of them say that it runs no job.
        quiet_since_ms: when the last of them ended.
        free_since_ms: since when it neither holds a job nor asks for one; a sweep old at most.
        stops: how many calls on the stop channel are held now.
        stops_ended_ms: when the last of them ended; None when it never asked for stops here.
        steps: of all pictures that it has handed in here.
        hung_up_ms: when it dropped a held call; None when it has called since, pings aside.
        taken_back: jobs that it ended without a report, and when that was noticed.
        is_shared: two processes use its name, as it seems.
        has_ended: it asked to be restarted, and its process has ended since.
        written_ms: when the database was last told.
        is_unwritten: the database does not know its state yet.
        leaves: set while it is leaving.
        unloads: set while it is to be asked to give its memory back.
        available: set while it may be given jobs.
        writing: held while the database is told.
    """

    id: str
    endpoint_ids: frozenset[str]
    state: WorkerState
    since_ms: int
    seen_ms: int
    free_since_ms: int
    called_ms: int = 0
    reason: str = ""
    fingerprint: str = ""
    memory: str = ""
    step_us: int | None = None
    is_throttled: bool = False
    can_unload: bool = False
    is_ours: bool = False
    asked_ms: int = 0
    handed_ms: int | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    lora_sets: tuple[LoraSet, ...] = ()
    takes: int = 0
    idle_takes: int = 0
    quiet_since_ms: int = -RESTART_MS
    stops: int = 0
    steps: int = 0
    stops_ended_ms: int | None = None
    hung_up_ms: int | None = None
    taken_back: dict[str, int] = field(default_factory=dict)
    is_shared: bool = False
    has_ended: bool = False
    written_ms: int | None = None
    is_unwritten: bool = False
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    unloads: asyncio.Event = field(default_factory=asyncio.Event)
    available: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def set_state(self, state: WorkerState, reason: str) -> None:
        """Note its state, and let those go on who wait for it."""
        self.state, self.reason, self.has_ended = state, reason, False
        for event, is_set in (
            (self.leaves, state is WorkerState.LEAVING),
            (self.available, state not in _WITHHELD),
        ):
            if is_set:
                event.set()
            else:
                event.clear()

    def adopt(self, record: WorkerRecord) -> None:
        """Believe what another gateway has written."""
        self.since_ms = record.since_ms
        self.fingerprint = record.fingerprint or self.fingerprint
        self.step_us = record.step_us or self.step_us
        self.set_state(record.state, record.reason)

    def record(self, now_ms: int) -> WorkerRecord:
        """What the other gateways shall know."""
        return WorkerRecord(
            self.id,
            self.endpoint_ids,
            self.state,
            self.reason,
            self.since_ms,
            now_ms,
            asked_ms=self.asked_ms,
            fingerprint=self.fingerprint,
            step_us=self.step_us,
        )

    def note_loras(self, loras: LoraSet) -> None:
        """Note that it was handed a job with these LoRAs, and has them from now on."""
        others = (other for other in self.lora_sets if other != loras)
        self.lora_sets = (loras, *others)[:_MAX_LORA_SETS]

    def silent_ms(self, passed_ms: int) -> int:
        """For how long it has given no sign of life here. Whoever holds a call is not silent."""
        return 0 if self.takes or self.stops else passed_ms - self.seen_ms

    def seems_to_leave(self, clock: Clock, take_began_ms: int) -> bool:
        """Whether it holds a take but nothing on the stop channel, as a process of the SDK does after a SIGTERM.

        What it is handed then, it drops. Whoever only seems so asks again at once, and is then served.
        """
        if self.stops_ended_ms is None or self.stops:
            return False
        return clock.monotonic_ms() - max(self.stops_ended_ms, take_began_ms) > _STOP_PAUSE_MS

    def unreported(self) -> list[str]:
        """Jobs it has ended without a report, given that it says now that it runs none."""
        return [] if self.is_shared else list(self.jobs)

    def check_pinged(self, job_ids: Collection[str], passed_ms: int) -> None:
        """Note when one process of its name runs what another has ended: neither is believed so again."""
        if any(passed_ms - at_ms > _PING_MS for job_id, at_ms in self.taken_back.items() if job_id in job_ids):
            self.is_shared = True

    def left_with(self, now_ms: int, passed_ms: int, lease_ms: int) -> list[str]:
        """Jobs it was handed when it was about to leave in good order: no fault of theirs.

        A process that dies drops its call on the stop channel; one that leaves waits for the answer, and ends.
        """
        if self.handed_ms is None:
            return []
        is_gone = self.stops_ended_ms is not None and self.hung_up_ms is None and self.silent_ms(passed_ms) >= lease_ms
        last_sign_ms = now_ms - (passed_ms - self.seen_ms)
        if not is_gone or last_sign_ms - self.handed_ms > _LEFT_AT_ONCE_MS:
            return []
        return [job.id for job in self.jobs.values() if job.claim_token - job.retries <= _MAX_UNBLAMED]


def condition_of(
    record: WorkerRecord, worker: KnownWorker | None, running_jobs: int, now_ms: int, passed_ms: int, patience_ms: int
) -> Condition:
    """What a worker does.

    Args:
        record: what all gateways know of it.
        worker: what this one knows, if it does.
        running_jobs: how many jobs are its own.
        now_ms: `Clock.now_ms`.
        passed_ms: `Clock.monotonic_ms`.
        patience_ms: how long a worker may be silent, or neither work nor ask for work.
    """
    if record.state in (WorkerState.STARTING, WorkerState.LEAVING):
        # Also silent ones: a large model takes minutes to load. But whoever can ping has nothing left to load.
        only_pings = worker is not None and not worker.is_ours and now_ms - record.since_ms > patience_ms
        return Condition.UNHEALTHY if only_pings and record.state is WorkerState.STARTING else Condition.INITIALIZING
    silent_ms = _silent_ms(record, worker, now_ms, passed_ms)
    if record.state in (WorkerState.UNHEALTHY, WorkerState.LOST) or silent_ms > patience_ms:
        return Condition.UNHEALTHY
    if running_jobs:
        return Condition.RUNNING
    if worker is not None and worker.takes:
        return Condition.IDLE
    handed_ms = worker.handed_ms if worker is not None else None
    is_ours_to_know = worker is not None and worker.asked_ms >= record.asked_ms
    asked_ms = max(record.asked_ms, worker.asked_ms) if worker is not None else record.asked_ms
    unasked_ms = now_ms - asked_ms
    if (handed_ms is None or asked_ms > handed_ms) and unasked_ms <= (
        _LATELY_MS if is_ours_to_know else _LATELY_ELSEWHERE_MS
    ):
        return Condition.IDLE
    # Busy with something it was told to stop, or about to ask; whoever is pings.
    free_ms = passed_ms - worker.free_since_ms if worker is not None else unasked_ms
    is_over = min(unasked_ms, free_ms) > patience_ms or silent_ms > max(_SILENT_MS, patience_ms // 2)
    return Condition.UNHEALTHY if is_over else Condition.RUNNING


def why_unhealthy(record: WorkerRecord, worker: KnownWorker | None, now_ms: int, passed_ms: int) -> str:
    """What there is to say of an unhealthy worker that has said nothing itself."""
    silent_ms = _silent_ms(record, worker, now_ms, passed_ms)
    if silent_ms > _SILENT_MS:
        return f"nothing was heard of it for {silent_ms // 1_000} s"
    return "it pings, and neither works nor asks for jobs"


def _silent_ms(record: WorkerRecord, worker: KnownWorker | None, now_ms: int, passed_ms: int) -> int:
    silent_ms = now_ms - record.seen_ms
    return silent_ms if worker is None else min(silent_ms, worker.silent_ms(passed_ms))
