"""A store of plain dicts: what the real one must answer. It shares the records with it, and no logic."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flux_endpoint.core.affinity import LEFT_MS, PASSED_OVER_MS, Affinity
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict, LeaseLost, ResultErased, UnknownJob
from flux_endpoint.core.job import (
    IDEMPOTENCY_KEY_LIFE_MS,
    Claim,
    Completed,
    Failed,
    IdempotencyKey,
    Job,
    JobCounts,
    JobStatus,
    Returned,
    SweepResult,
)

DAY_MS = 86_400_000
# Stands for whatever sentence the store itself finds for an error.
A_REASON = "(a reason)"
WAITING, RUNNING = JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS
COMPLETED, FAILED = JobStatus.COMPLETED, JobStatus.FAILED
CANCELLED, TIMED_OUT = JobStatus.CANCELLED, JobStatus.TIMED_OUT


@dataclass
class Kept:
    """A job and what no client sees of it.

    Attributes:
        lease_ms: until when its worker holds it, while it runs.
        must_stop: its worker has yet to be told that it ended.
        chunks: what its attempt has sent.
        readers: how many of them each reader has been handed.
        is_erased: only figures are left.
    """

    job: Job
    lease_ms: int = 0
    must_stop: bool = False
    chunks: list[Any] = field(default_factory=list)
    readers: dict[str, int] = field(default_factory=dict)
    is_erased: bool = False

    def copy(self) -> "Kept":
        return dataclasses.replace(self, chunks=list(self.chunks), readers=dict(self.readers))

    def drop_chunks(self) -> None:
        self.chunks.clear()
        self.readers.clear()

    def change(self, **changes: Any) -> Job:
        if changes.get("status") is WAITING:
            self.drop_chunks()
        self.job = dataclasses.replace(self.job, **changes)
        return self.job


class ModelStore:
    """Verbs, arguments and answers are those of `JobStore`, one at a time; `kept` is in the order of submission.

    Attributes:
        charged: of which jobs, and when.
        told: each end of a job that has a webhook.
        ends: how often a job has ended, and how often a client has woken it again.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.kept: dict[str, Kept] = {}
        # By name: a hash of the request, the job, and when.
        self.names: dict[str, tuple[str, str, int]] = {}
        self.charged: list[tuple[str, int]] = []
        self.told: list[tuple[str, JobStatus]] = []
        self.ends: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()

    def copy(self) -> "ModelStore":
        twin = ModelStore(self.clock)
        twin.kept = {i: kept.copy() for i, kept in self.kept.items()}
        twin.names, twin.charged, twin.told = dict(self.names), list(self.charged), list(self.told)
        twin.ends, twin.retried = Counter(self.ends), Counter(self.retried)
        return twin

    # What follows is for the verbs.

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def is_visible(self, kept: Kept) -> bool:
        return kept.job.expires_ms is None or kept.job.expires_ms > self.now_ms()

    def those(self, *statuses: JobStatus) -> list[Kept]:
        return [kept for kept in self.kept.values() if kept.job.status in statuses]

    def of_client(self, endpoint_id: str, job_id: str) -> Kept:
        kept = self.kept.get(job_id)
        if kept is None or kept.job.endpoint_id != endpoint_id or not self.is_visible(kept):
            raise UnknownJob(job_id)
        return kept

    def held(self, job_id: str, worker_id: str, token: int | None) -> Kept:
        if job_id not in self.kept:
            raise UnknownJob(job_id)
        kept = self.kept[job_id]
        if kept.job.status is not RUNNING or not is_reporter(kept.job, worker_id, token):
            raise LeaseLost(job_id)
        return kept

    def end(self, kept: Kept, status: JobStatus, *, keeps_expiry: bool = False, **changes: Any) -> Job:
        assert not kept.job.status.is_terminal
        job, now_ms = kept.job, self.now_ms()
        ends_of_life = [] if job.retention_ms is None else [now_ms + job.retention_ms]
        ends_of_life += [] if job.policy.ttl_ms is None else [job.created_ms + job.policy.ttl_ms]
        expires_ms = job.expires_ms if keeps_expiry else min(ends_of_life, default=None)
        self.ends[job.id] += 1
        if job.webhook is not None:
            self.told.append((job.id, status))
        return kept.change(status=status, finished_ms=now_ms, expires_ms=expires_ms, progress=None, **changes)

    def lose(self, lost: list[Kept], counts_as_retry: bool, max_retries: int) -> SweepResult:
        failed = [kept for kept in lost if counts_as_retry and kept.job.retries >= max_retries]
        requeued = [kept for kept in lost if kept not in failed]
        for kept in failed:
            self.end(kept, FAILED, error=A_REASON)
        for kept in requeued:
            retries = kept.job.retries + counts_as_retry
            kept.change(status=WAITING, queued_ms=self.now_ms(), retries=retries, progress=None)
        return SweepResult(requeued=ids_of(requeued), failed=ids_of(failed))

    # The client's verbs.

    def enqueue(self, job: Job, idempotency_key: IdempotencyKey | None = None) -> Job:
        if idempotency_key is not None:
            request_hash, first_id, created_ms = self.names.get(idempotency_key.name, ("", "", 0))
            before = self.kept.get(first_id)
            is_visible = before is not None and self.is_visible(before)
            if is_visible or self.now_ms() < created_ms + IDEMPOTENCY_KEY_LIFE_MS:
                if request_hash != idempotency_key.request_hash:
                    raise Conflict(idempotency_key.name)
                if before is None or not is_visible:
                    raise ResultErased(idempotency_key.name, first_id, None)
                return before.job
            self.names[idempotency_key.name] = (idempotency_key.request_hash, job.id, job.created_ms)
        self.kept[job.id] = Kept(job)
        self.ends[job.id] += job.status.is_terminal
        return job

    def get(self, endpoint_id: str, job_id: str) -> Job:
        return self.of_client(endpoint_id, job_id).job

    def set_ttl(self, endpoint_id: str, job_id: str, ttl_ms: int) -> Job:
        kept = self.of_client(endpoint_id, job_id)
        expires_ms = self.now_ms() + ttl_ms
        if kept.job.status.is_terminal:
            return kept.change(expires_ms=expires_ms)
        policy = dataclasses.replace(kept.job.policy, ttl_ms=expires_ms - kept.job.created_ms)
        return kept.change(expires_ms=expires_ms, policy=policy)

    def queue_position(self, job: Job) -> int | None:
        waiting = [kept.job.id for kept in self.in_order(WAITING) if kept.job.endpoint_id == job.endpoint_id]
        return waiting.index(job.id) + 1 if job.status is WAITING else None

    def cancel(self, endpoint_id: str, job_id: str) -> Job:
        kept = self.of_client(endpoint_id, job_id)
        if kept.job.status.is_terminal:
            return kept.job
        kept.must_stop = kept.job.status is RUNNING
        return self.end(kept, CANCELLED, bucket=None)

    def retry(self, endpoint_id: str, job_id: str) -> Job:
        kept = self.of_client(endpoint_id, job_id)
        job, now_ms = kept.job, self.now_ms()
        if job.status not in (FAILED, TIMED_OUT) or job.started_ms is None:
            raise Conflict(job_id)
        expires_ms, policy = now_ms + DAY_MS, job.policy
        if policy.ttl_ms is not None:
            # Its life may have been made longer after the end.
            expires_ms = max(job.created_ms + policy.ttl_ms, job.expires_ms)
            policy = dataclasses.replace(policy, ttl_ms=expires_ms - job.created_ms)
        kept.must_stop = False
        self.retried[job_id] += 1
        cleared = {"finished_ms": None, "output": None, "error": None, "retries": 0}
        return kept.change(status=WAITING, queued_ms=now_ms, expires_ms=expires_ms, policy=policy, **cleared)

    def purge(self, endpoint_id: str) -> int:
        waiting = [kept for kept in self.those(WAITING) if kept.job.endpoint_id == endpoint_id]
        for kept in waiting:
            self.end(kept, CANCELLED, bucket=None)
        return len(waiting)

    def take_chunks(self, endpoint_id: str, job_id: str, key_id: str, timeout_s: float) -> tuple[Job, list[Any]]:
        kept = self.of_client(endpoint_id, job_id)
        read, kept.readers[key_id] = kept.readers.get(key_id, 0), len(kept.chunks)
        return kept.job, kept.chunks[read:]

    def counts(self, endpoint_id: str) -> JobCounts:
        jobs = [kept.job for kept in self.kept.values() if kept.job.endpoint_id == endpoint_id]
        # A request that was refused at the door is no job.
        jobs = [job for job in jobs if job.status is not FAILED or job.started_ms is not None]
        number = Counter(job.status for job in jobs)
        ended_badly = number[FAILED] + number[TIMED_OUT]
        retries = sum(job.retries for job in jobs)
        return JobCounts(number[WAITING], number[RUNNING], number[COMPLETED], ended_badly, retries)

    # The worker's verbs.

    def in_order(self, status: JobStatus) -> list[Kept]:
        return sorted(self.those(status), key=lambda kept: kept.job.created_ms)

    def best_first(self, waiting: list[Kept], affinity: Affinity) -> list[Kept]:
        """What a worker may take of what waits; a set is an endpoint and one name."""
        ages = [(kept, self.now_ms() - kept.job.created_ms) for kept in waiting]
        groups: list[list[Kept]] = [[kept for kept, age_ms in ages if age_ms > PASSED_OVER_MS]]
        young = [(kept, age_ms) for kept, age_ms in ages if age_ms <= PASSED_OVER_MS]
        for loras in affinity.held:
            groups.append([kept for kept, _ in young if loras_of(kept.job) == loras])
        others = [(kept, age_ms) for kept, age_ms in young if loras_of(kept.job) not in affinity.held]
        groups.append([k for k, age_ms in others if age_ms > LEFT_MS or loras_of(k.job) not in affinity.left])
        return [kept for group in groups for kept in group]

    def claim(
        self, worker_id: str, endpoint_ids: list[str], limit: int, lease_s: float, affinity: Affinity | None = None
    ) -> list[Claim]:
        now_ms = self.now_ms()
        lease_ms = now_ms + round(lease_s * 1_000)
        waiting = [k for k in self.in_order(WAITING) if k.job.endpoint_id in endpoint_ids and self.is_visible(k)]
        if affinity is not None:
            chosen = self.best_first(waiting, affinity)[:limit]
            waiting = [kept for kept in waiting if kept in chosen]
        for kept in waiting[:limit]:
            kept.lease_ms = lease_ms
            token = kept.job.claim_token + 1
            kept.change(status=RUNNING, worker_id=worker_id, claim_token=token, started_ms=now_ms)
        return [Claim(kept.job, worker_id, kept.job.claim_token, lease_ms) for kept in waiting[:limit]]

    def renew(self, worker_id: str, job_ids: list[str], lease_s: float) -> frozenset[str]:
        held = [kept for kept in self.those(RUNNING) if kept.job.worker_id == worker_id and kept.job.id in job_ids]
        for kept in held:
            kept.lease_ms = self.now_ms() + round(lease_s * 1_000)
        return frozenset(job_ids) - frozenset(ids_of(held))

    def finish(self, job_id: str, worker_id: str, token: int | None, outcome: Completed | Failed | Returned) -> Job:
        status = {Completed: COMPLETED, Failed: FAILED, Returned: WAITING}[type(outcome)]
        known = self.kept.get(job_id)
        is_repeated = known is not None and known.job.status is status is not WAITING
        if is_repeated and is_reporter(known.job, worker_id, token):
            return known.job
        kept = self.held(job_id, worker_id, token)
        match outcome:
            case Completed() if not self.is_visible(kept):
                raise LeaseLost(job_id)
            case Completed(output):
                self.charged.append((job_id, self.now_ms()))
                return self.end(kept, COMPLETED, output=output, bucket=None)
            case Failed(error, output):
                return self.end(kept, FAILED, error=error, output=output)
            case Returned():
                return kept.change(status=WAITING, progress=None)

    def append_chunk(self, job_id: str, worker_id: str, token: int | None, output: Any, progress: Any = None) -> None:
        kept = self.held(job_id, worker_id, token)
        kept.chunks.append(output)
        if progress is not None:
            kept.change(progress=progress)

    def set_progress(self, job_id: str, worker_id: str, token: int | None, progress: Any) -> None:
        self.held(job_id, worker_id, token).change(progress=progress)

    def wait_for_stops(self, worker_id: str, timeout_s: float) -> list[str]:
        told = [kept for kept in self.kept.values() if kept.must_stop and kept.job.worker_id == worker_id]
        for kept in told:
            kept.must_stop = False
        return list(ids_of(told))

    # The operator's verbs.

    def release(self, worker_id_prefix: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        of_gone = [k for k in self.kept.values() if (k.job.worker_id or "").startswith(worker_id_prefix)]
        for kept in of_gone:
            kept.must_stop = False
        return self.lose([k for k in of_gone if k.job.status is RUNNING], counts_as_retry, max_retries)

    def release_worker(self, worker_id: str, *, counts_as_retry: bool, max_retries: int) -> SweepResult:
        lost = [kept for kept in self.those(RUNNING) if kept.job.worker_id == worker_id]
        return self.lose(lost, counts_as_retry, max_retries)

    def sweep(self, max_retries: int) -> SweepResult:
        timed_out = []
        for kept in self.those(WAITING, RUNNING):
            job, is_running = kept.job, kept.job.status is RUNNING
            is_over = not self.is_visible(kept)
            if is_over or (is_running and job.started_ms + job.policy.execution_timeout_ms <= self.now_ms()):
                self.end(kept, TIMED_OUT, keeps_expiry=is_over, error=A_REASON)
                kept.must_stop = is_running
                timed_out.append(job.id)
        lost = [kept for kept in self.those(RUNNING) if kept.lease_ms <= self.now_ms()]
        return dataclasses.replace(self.lose(lost, True, max_retries), timed_out=tuple(timed_out))

    def erase_expired(self) -> int:
        faded = [k for k in self.kept.values() if k.job.status.is_terminal and not self.is_visible(k)]
        faded = [kept for kept in faded if not kept.is_erased]
        for kept in faded:
            kept.is_erased = True
            kept.drop_chunks()
            kept.change(input={}, output=None, webhook=None, bucket=None, expires_ms=0)
        return len(faded)

    def forget(self, finished_before_ms: int) -> int:
        old = [k.job.id for k in self.kept.values() if k.is_erased and k.job.finished_ms < finished_before_ms]
        for job_id in old:
            del self.kept[job_id]
        return len(old)


def is_reporter(job: Job, worker_id: str, token: int | None) -> bool:
    return job.worker_id == worker_id and token in (None, job.claim_token)


def loras_of(job: Job) -> tuple[str, ...]:
    return (job.endpoint_id, *(lora["sha256"] for lora in job.input.get("loras", ())))


def ids_of(many: list[Kept]) -> tuple[str, ...]:
    return tuple(kept.job.id for kept in many)
