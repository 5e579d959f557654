"""Random interleavings of everything that can happen to jobs, against a model small enough to be seen right."""

import asyncio
import dataclasses
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import Conflict, LeaseLost, UnknownJob
from flux_endpoint.core.job import ALLOWED_MOVES, Claim, Completed, Failed, JobStatus, Policy, Returned
from flux_endpoint.stores.connect import open_store
from flux_endpoint.stores.protocol import Once
from tests.contract.samples import COST_USD, DEV, LEASE_S, SCHNELL, sample_job

MAX_RETRIES = 1
WORKERS = st.sampled_from(["node-1-a", "node-1-b", "node-2-a"])
ENDPOINTS = st.sets(st.sampled_from([DEV, SCHNELL]), min_size=1)
# Longer and shorter than a lease, so that each of them is the first to run out now and then.
POLICIES = st.builds(
    Policy, execution_timeout_ms=st.sampled_from([600_000, 20_000]), ttl_ms=st.sampled_from([None, None, 50_000])
)
OUTCOMES = st.sampled_from([Completed({"image": "x"}), Failed("bad"), Returned()])


@dataclass
class ModelJob:
    endpoint_id: str
    policy: Policy
    created_ms: int
    status: JobStatus = JobStatus.IN_QUEUE
    worker_id: str | None = None
    token: int = 0
    retries: int = 0
    started_ms: int = 0
    lease_ms: int = 0
    untold: bool = False
    retries_asked: int = 0
    unread: list[int] = field(default_factory=list)
    progress: dict[str, int] | None = None
    history: list[JobStatus] = field(default_factory=lambda: [JobStatus.IN_QUEUE])

    def move(self, status):
        assert status in ALLOWED_MOVES[self.status]
        self.status = status
        self.progress = None
        self.history.append(status)

    def is_visible(self, now_ms):
        return self.policy.ttl_ms is None or now_ms < self.created_ms + self.policy.ttl_ms

    def time_out(self):
        self.untold = self.status is JobStatus.IN_PROGRESS
        self.move(JobStatus.TIMED_OUT)

    def lose(self, counts_as_retry):
        if counts_as_retry and self.retries >= MAX_RETRIES:
            self.move(JobStatus.FAILED)
        else:
            self.move(JobStatus.IN_QUEUE)
            self.retries += counts_as_retry


class JobHistories(RuleBasedStateMachine):
    """`jobs` is in the order of submission, which is the order of the queue."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.jobs: dict[str, ModelJob] = {}
        self.claims: list[Claim] = []
        self.names: dict[str, tuple[str, str]] = {}
        self.chunks = 0

    def do(self, awaitable):
        return self.runner.run(awaitable)

    @initialize()
    def open(self):
        self.store = self.do(open_store(f"sqlite:///{self.folder}/jobs.db", self.clock))

    def teardown(self):
        self.do(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def running(self):
        return {job_id: job for job_id, job in self.jobs.items() if job.status is JobStatus.IN_PROGRESS}

    def is_visible(self, job):
        return job.is_visible(self.clock.now_ms())

    def draw_job(self, data):
        return data.draw(st.sampled_from(list(self.jobs.items())))

    def draw_claim(self, data):
        # Mostly one that may still hold.
        return data.draw(st.one_of(st.sampled_from(self.claims[-2:]), st.sampled_from(self.claims)))

    def new_job(self, endpoint_id, policy):
        job = sample_job(self.clock, endpoint_id=endpoint_id, policy=policy)
        if policy.ttl_ms is not None:
            job = dataclasses.replace(job, expires_ms=job.created_ms + policy.ttl_ms)
        return job

    @rule(endpoint_id=st.sampled_from([DEV, SCHNELL]), count=st.integers(1, 3), policy=POLICIES)
    def enqueue(self, endpoint_id, count, policy):
        for _ in range(count):
            job = self.new_job(endpoint_id, policy)
            self.do(self.store.enqueue(job))
            self.jobs[job.id] = ModelJob(endpoint_id, policy, job.created_ms)

    @rule(name=st.sampled_from(["one", "two"]), request_hash=st.sampled_from(["a", "a", "b"]), policy=POLICIES)
    def enqueue_once(self, name, request_hash, policy):
        job = self.new_job(DEV, policy)
        submission = self.store.enqueue(job, Once(name, request_hash))
        known_id, known_hash = self.names.get(name, ("", ""))
        if not known_id or not self.is_visible(self.jobs[known_id]):
            assert self.do(submission) == job
            self.jobs[job.id] = ModelJob(DEV, policy, job.created_ms)
            self.names[name] = (job.id, request_hash)
        elif request_hash == known_hash:
            assert self.do(submission).id == known_id
        else:
            with pytest.raises(Conflict):
                self.do(submission)

    @rule(worker_id=WORKERS, endpoint_ids=ENDPOINTS, limit=st.integers(1, 3))
    def claim(self, worker_id, endpoint_ids, limit):
        claims = self.do(self.store.claim(worker_id, endpoint_ids, limit, LEASE_S))
        waiting = [
            job_id
            for job_id, job in self.jobs.items()
            if job.status is JobStatus.IN_QUEUE and job.endpoint_id in endpoint_ids and self.is_visible(job)
        ]
        assert [claim.job.id for claim in claims] == waiting[:limit]
        for claim in claims:
            job = self.jobs[claim.job.id]
            job.move(JobStatus.IN_PROGRESS)
            job.token += 1
            job.worker_id = worker_id
            job.started_ms = self.clock.now_ms()
            job.lease_ms = claim.expires_ms
            assert claim.token == job.token
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=OUTCOMES, with_token=st.booleans())
    def finish(self, data, outcome, with_token):
        claim = self.draw_claim(data)
        job = self.jobs[claim.job.id]
        token = claim.token if with_token else None
        is_holder = job.worker_id == claim.worker_id and token in (None, job.token)
        repeats = {Completed: JobStatus.COMPLETED, Failed: JobStatus.FAILED}.get(type(outcome))
        report = self.store.finish(claim.job.id, claim.worker_id, token, outcome)
        if is_holder and job.status is JobStatus.IN_PROGRESS:
            self.do(report)
            job.move(repeats or JobStatus.IN_QUEUE)
        elif is_holder and job.status is repeats:
            self.do(report)
        else:
            with pytest.raises(LeaseLost):
                self.do(report)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), kind=st.sampled_from(["chunk", "progress", "both"]), with_token=st.booleans())
    def send(self, data, kind, with_token):
        claim = self.draw_claim(data)
        job = self.jobs[claim.job.id]
        token = claim.token if with_token else None
        self.chunks += 1
        news = {"step": self.chunks}
        if kind == "progress":
            report = self.store.set_progress(claim.job.id, claim.worker_id, token, news)
        else:
            progress = news if kind == "both" else None
            report = self.store.append_chunk(claim.job.id, claim.worker_id, token, self.chunks, progress)
        is_holder = job.worker_id == claim.worker_id and token in (None, job.token)
        if not is_holder or job.status is not JobStatus.IN_PROGRESS:
            with pytest.raises(LeaseLost):
                self.do(report)
            return
        self.do(report)
        if kind != "progress":
            job.unread.append(self.chunks)
        if kind != "chunk":
            job.progress = news

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def read_chunks(self, data):
        job_id, job = self.draw_job(data)
        reading = self.store.take_chunks(job.endpoint_id, job_id, timeout_s=0)
        if not self.is_visible(job):
            with pytest.raises(UnknownJob):
                self.do(reading)
            return
        found, chunks = self.do(reading)
        assert (found.status, chunks) == (job.status, job.unread)
        job.unread = []

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data):
        job_id, job = self.draw_job(data)
        cancelling = self.store.cancel(job.endpoint_id, job_id)
        if not self.is_visible(job):
            with pytest.raises(UnknownJob):
                self.do(cancelling)
            return
        self.do(cancelling)
        if not job.status.is_terminal:
            job.untold = job.status is JobStatus.IN_PROGRESS
            job.move(JobStatus.CANCELLED)

    @rule(endpoint_id=st.sampled_from([DEV, SCHNELL]))
    def purge(self, endpoint_id):
        jobs = self.jobs.values()
        waiting = [job for job in jobs if job.status is JobStatus.IN_QUEUE and job.endpoint_id == endpoint_id]
        assert self.do(self.store.purge(endpoint_id)) == len(waiting)
        for job in waiting:
            job.move(JobStatus.CANCELLED)

    def ended_badly(self):
        ends = (JobStatus.FAILED, JobStatus.TIMED_OUT)
        return [job_id for job_id, job in self.jobs.items() if job.status in ends]

    @precondition(ended_badly)
    @rule(data=st.data())
    def retry(self, data):
        job_id = data.draw(st.sampled_from(self.ended_badly()))
        job = self.jobs[job_id]
        retrying = self.store.retry(job.endpoint_id, job_id)
        if not self.is_visible(job):
            with pytest.raises(UnknownJob):
                self.do(retrying)
            return
        self.do(retrying)
        job.move(JobStatus.IN_QUEUE)
        job.untold = False
        job.retries = 0
        job.retries_asked += 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry_too_early(self, data):
        job_id, job = self.draw_job(data)
        if job_id not in self.ended_badly():
            with pytest.raises(Conflict if self.is_visible(job) else UnknownJob):
                self.do(self.store.retry(job.endpoint_id, job_id))

    def running_in_sight(self):
        return {job_id: job for job_id, job in self.running().items() if self.is_visible(job)}

    @precondition(running_in_sight)
    @rule(data=st.data())
    def cancel_while_it_finishes(self, data):
        job_id, job = data.draw(st.sampled_from(list(self.running_in_sight().items())))
        rivals = [
            self.store.cancel(job.endpoint_id, job_id),
            self.store.finish(job_id, job.worker_id, job.token, Completed({})),
        ]
        if data.draw(st.booleans()):
            rivals.reverse()

        async def race():
            await asyncio.gather(*rivals, return_exceptions=True)
            return await self.store.get(job.endpoint_id, job_id)

        job.move(self.do(race()).status)
        job.untold = job.status is JobStatus.CANCELLED

    @rule(worker_id=WORKERS)
    def take_stops(self, worker_id):
        told = self.do(self.store.wait_for_stops(worker_id, timeout_s=0))
        expected = {job_id: job for job_id, job in self.jobs.items() if job.untold and job.worker_id == worker_id}
        assert sorted(told) == sorted(expected)
        for job in expected.values():
            job.untold = False

    @rule(worker_id=WORKERS)
    def renew(self, worker_id):
        held = {job_id: job for job_id, job in self.running().items() if job.worker_id == worker_id}
        assert self.do(self.store.renew(worker_id, list(self.jobs), LEASE_S)) == self.jobs.keys() - held.keys()
        for job in held.values():
            job.lease_ms = self.clock.now_ms() + round(LEASE_S * 1_000)

    @rule(seconds=st.sampled_from([1, 15, 31]))
    def sweep(self, seconds):
        self.clock.advance(s=seconds)
        now_ms = self.clock.now_ms()
        over = {i: job for i, job in self.jobs.items() if not job.status.is_terminal and not self.is_visible(job)}
        over |= {i: j for i, j in self.running().items() if j.started_ms + j.policy.execution_timeout_ms <= now_ms}
        for job in over.values():
            job.time_out()
        expired = {i: job for i, job in self.running().items() if job.lease_ms <= now_ms}
        for job in expired.values():
            job.lose(counts_as_retry=True)
        swept = self.do(self.store.sweep(MAX_RETRIES))
        assert sorted(swept.timed_out) == sorted(over)
        self.check_swept(swept, expired)

    @rule(seconds=st.sampled_from([10, 25]))
    def pass_time(self, seconds):
        """Nobody has swept yet: what is over is out of sight all the same."""
        self.clock.advance(s=seconds)

    @rule(prefix=st.sampled_from(["node-1-", "node-2-a", "node-"]), counts_as_retry=st.booleans())
    def release(self, prefix, counts_as_retry):
        gone = {i: job for i, job in self.running().items() if job.worker_id.startswith(prefix)}
        for job in gone.values():
            job.lose(counts_as_retry)
        for job in self.jobs.values():
            job.untold = job.untold and not job.worker_id.startswith(prefix)
        swept = self.do(self.store.release(prefix, counts_as_retry=counts_as_retry, max_retries=MAX_RETRIES))
        self.check_swept(swept, gone)

    def check_swept(self, swept, lost):
        assert sorted(swept.requeued) == sorted(i for i, job in lost.items() if job.status is JobStatus.IN_QUEUE)
        assert sorted(swept.failed) == sorted(i for i, job in lost.items() if job.status is JobStatus.FAILED)

    @rule()
    def restart(self):
        self.do(self.store.close())
        self.open()

    @invariant()
    def the_store_agrees_with_the_model(self):
        if not self.jobs:
            return
        kept = [self.do(self.store.recent(endpoint_id, [], 1_000))[0] for endpoint_id in (DEV, SCHNELL)]
        figures = {job.id: job for jobs in kept for job in jobs}
        assert figures.keys() == self.jobs.keys()
        for job_id, model in self.jobs.items():
            job = figures[job_id]
            if self.is_visible(model):
                job = self.do(self.store.get(model.endpoint_id, job_id))
                assert job.progress == model.progress
            else:
                with pytest.raises(UnknownJob):
                    self.do(self.store.get(model.endpoint_id, job_id))
            assert (job.status, job.claim_token, job.retries) == (model.status, model.token, model.retries)
            assert (job.finished_ms is not None) == model.status.is_terminal

    @invariant()
    def a_job_ends_once_for_each_attempt_its_client_asked_for(self):
        for job in self.jobs.values():
            ends = sum(status.is_terminal for status in job.history)
            assert ends == job.retries_asked + job.status.is_terminal
            assert job.history.count(JobStatus.COMPLETED) + job.history.count(JobStatus.CANCELLED) <= 1

    @invariant()
    def exactly_the_completed_jobs_are_charged_once(self):
        if self.jobs:
            entries = self.do(self.store.entries())
            assert sorted(entry.job_id for entry in entries) == sorted(
                job_id for job_id, job in self.jobs.items() if job.status is JobStatus.COMPLETED
            )
            assert {entry.amount_usd for entry in entries} <= {COST_USD}


TestJobHistories = JobHistories.TestCase
TestJobHistories.settings = settings(
    max_examples=15,
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
