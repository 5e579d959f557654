"""Random interleavings of everything that can happen to jobs, against a model small enough to be seen right."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import LeaseLost
from flux_endpoint.core.job import ALLOWED_MOVES, Claim, Completed, Failed, JobStatus, Returned
from flux_endpoint.stores.connect import open_store
from tests.contract.samples import COST_USD, DEV, LEASE_S, SCHNELL, sample_job

MAX_RETRIES = 1
WORKERS = st.sampled_from(["node-1-a", "node-1-b", "node-2-a"])
ENDPOINTS = st.sets(st.sampled_from([DEV, SCHNELL]), min_size=1)
OUTCOMES = st.sampled_from([Completed({"image": "x"}), Failed("bad"), Returned()])


@dataclass
class ModelJob:
    endpoint_id: str
    status: JobStatus = JobStatus.IN_QUEUE
    worker_id: str | None = None
    token: int = 0
    retries: int = 0
    expires_ms: int = 0
    reported: str | None = None
    untold: bool = False
    history: list[JobStatus] = field(default_factory=lambda: [JobStatus.IN_QUEUE])

    def move(self, status):
        assert status in ALLOWED_MOVES[self.status]
        self.status = status
        self.history.append(status)

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

    @rule(endpoint_id=st.sampled_from([DEV, SCHNELL]), count=st.integers(1, 3))
    def enqueue(self, endpoint_id, count):
        for _ in range(count):
            job = sample_job(self.clock, endpoint_id=endpoint_id)
            self.do(self.store.enqueue(job))
            self.jobs[job.id] = ModelJob(endpoint_id)

    @rule(worker_id=WORKERS, endpoint_ids=ENDPOINTS, limit=st.integers(1, 3))
    def claim(self, worker_id, endpoint_ids, limit):
        claims = self.do(self.store.claim(worker_id, endpoint_ids, limit, LEASE_S))
        waiting = [
            job_id
            for job_id, job in self.jobs.items()
            if job.status is JobStatus.IN_QUEUE and job.endpoint_id in endpoint_ids
        ]
        assert [claim.job.id for claim in claims] == waiting[:limit]
        for claim in claims:
            job = self.jobs[claim.job.id]
            job.move(JobStatus.IN_PROGRESS)
            job.token += 1
            job.worker_id = worker_id
            job.expires_ms = claim.expires_ms
            assert claim.token == job.token
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=OUTCOMES, with_token=st.booleans())
    def finish(self, data, outcome, with_token):
        claim = data.draw(st.sampled_from(self.claims))
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

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data):
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        job = self.jobs[job_id]
        self.do(self.store.cancel(job.endpoint_id, job_id))
        if not job.status.is_terminal:
            job.untold = job.status is JobStatus.IN_PROGRESS
            job.move(JobStatus.CANCELLED)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def cancel_while_it_finishes(self, data):
        job_id, job = data.draw(st.sampled_from(list(self.running().items())))
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
            job.expires_ms = self.clock.now_ms() + round(LEASE_S * 1_000)

    @rule(seconds=st.sampled_from([1, 15, 31]))
    def sweep(self, seconds):
        self.clock.advance(s=seconds)
        expired = {i: job for i, job in self.running().items() if job.expires_ms <= self.clock.now_ms()}
        for job in expired.values():
            job.lose(counts_as_retry=True)
        self.check_swept(self.do(self.store.sweep(MAX_RETRIES)), expired)

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
        for job_id, model in self.jobs.items():
            job = self.do(self.store.get(model.endpoint_id, job_id))
            assert (job.status, job.claim_token, job.retries) == (model.status, model.token, model.retries)
            assert (job.finished_ms is not None) == model.status.is_terminal
            assert sum(status.is_terminal for status in model.history) <= 1

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
