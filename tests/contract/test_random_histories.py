"""Random interleavings of everything that can happen to jobs, on both databases; `model_store.py` knows every answer.

`make test` plays the same histories each time. `HISTORIES=5000 pytest tests/contract/test_random_histories.py
--timeout 0` plays others, and shortens one that fails. `python -m tests.faults` tells which faults they find.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from flux_endpoint.core.affinity import Affinity
from flux_endpoint.core.job import Completed, Failed, IdempotencyKey, Job, Policy, Returned
from tests.contract.history import ERROR, MAX_RETRIES, WORKERS, Call, History, World, call, plain
from tests.contract.model_store import COMPLETED, DAY_MS, FAILED, RUNNING, TIMED_OUT, WAITING
from tests.contract.samples import LEASE_S, sample_bucket, sample_job

# How many `make test` plays on each database, in about 15 s of CPU each.
HISTORIES = {"sqlite": 150, "postgres": 40}
STEPS = 40

OUTCOMES = [Completed({"image": "x"}), Failed(ERROR), Failed(ERROR, {"half": 1}), Returned()]

# Which of some jobs: 0 for the latest.
NUMBERS = st.integers(0, 5)
WORKER = st.sampled_from(WORKERS)
OUTCOME = st.sampled_from(OUTCOMES)
# "none": the protocol of third-party workers has no place for one.
TOKENS = st.sampled_from(["held", "held", "old", "none"])
REPORTERS = st.sampled_from(["holder", "holder", "holder", *WORKERS])
# Longer and shorter than a lease, so that each of them is the first to run out now and then.
SUBMISSIONS = st.fixed_dictionaries(
    {
        "execution_timeout_ms": st.sampled_from([600_000, 20_000]),
        "ttl_ms": st.sampled_from([None, None, 50_000]),
        "retention_ms": st.sampled_from([DAY_MS, 25_000]),
        "webhook": st.sampled_from([None, "https://a.example/hook"]),
        "lora": st.sampled_from([None, None, "a", "b"]),
    }
)
PLAIN = {"execution_timeout_ms": 600_000, "ttl_ms": None, "retention_ms": DAY_MS, "webhook": None, "lora": None}
# What a worker has, the latest first, and what it leaves to others.
AFFINITIES = st.sampled_from(["", "", "", "a", "ba", "-a", "a-b", "b-a"])
KINDS = st.sampled_from(["chunk", "news", "both"])
DEEDS = st.sampled_from(["sweep", "sweep", "claim", "erase", "complete", "look"])
RACERS = [*("complete", "complete", "fail", "give back", "cancel", "claim", "claim elsewhere", "old report")]
RACERS += [*("sweep", "renew", "retry", "chunk", "progress", "stops", "once", "once too")]


class JobHistories(History):
    """Every rule prefers what may go wrong: running jobs, late reports, the moment when something runs out."""

    # What the rules are about.

    def new_job(self, number: int, wishes: dict[str, Any], **changes: Any) -> Job:
        policy = Policy(wishes["execution_timeout_ms"], wishes["ttl_ms"])
        self.sent += 1
        job = sample_job(self.clock, id=f"{self.name}-job-{self.sent}", key_id=self.name, policy=policy, **changes)
        expires_ms = None if policy.ttl_ms is None else job.created_ms + policy.ttl_ms
        return dataclasses.replace(
            job,
            input=job.input | ({"loras": [{"sha256": wishes["lora"]}]} if wishes["lora"] else {}),
            endpoint_id=self.endpoints[number % 4 == 3],
            expires_ms=expires_ms,
            retention_ms=wishes["retention_ms"],
            webhook=wishes["webhook"],
            bucket=sample_bucket(),
        )

    def wish(self, names: str) -> dict[str, Any]:
        """What a claim says of LoRAs."""
        held, left = ([(e, name) for name in side for e in self.endpoints] for side in (names + "-").split("-")[:2])
        return {"affinity": Affinity(tuple(held), frozenset(left))} if names else {}

    def racer(self, kind: str, number: int) -> Call:
        """A call about the job that the race is about, or one that may meet it."""
        kept = self.pick(number, RUNNING)
        client, holder = self.client_of(kept), self.reporter(kept)
        match kind:
            case "complete" | "fail" | "give back":
                outcome = {"complete": OUTCOMES[0], "fail": OUTCOMES[1], "give back": OUTCOMES[3]}[kind]
                return call("claims.finish", *holder, outcome)
            case "old report":
                return call("claims.finish", *self.reporter(kept, token="old"), OUTCOMES[0])
            case "cancel" | "retry":
                return call(f"jobs.{kind}", *client)
            case "claim" | "claim elsewhere":
                worker_id = self.worker(WORKERS[kind != "claim"])
                return call("claims.claim", worker_id, self.endpoints, 1, LEASE_S)
            case "sweep":
                return call("claims.sweep", MAX_RETRIES)
            case "renew":
                return call("claims.renew", holder[1], [kept.job.id], LEASE_S)
            case "chunk" | "progress":
                verb = {"chunk": "append_chunk", "progress": "set_progress"}[kind]
                return call(f"claims.{verb}", *holder, {"step": self.steps})
            case "stops":
                return call("claims.wait_for_stops", holder[1], 0)
            case _:
                return call("jobs.enqueue", self.new_job(0, PLAIN), IdempotencyKey("raced", "a"))

    def moments(self) -> list[int]:
        """When something runs out next, milliseconds from now."""
        ends = [kept.job.expires_ms for kept in self.model.kept.values() if kept.job.expires_ms]
        for kept in self.model.those(RUNNING):
            ends += [kept.lease_ms, kept.job.started_ms + kept.job.policy.execution_timeout_ms]
        return sorted(end - self.clock.now_ms() for end in ends if end > self.clock.now_ms())

    # The rules.

    # None has a precondition: which rule comes next must not hang on who has won a race, or PostgreSQL could not play
    # the same history again. What a rule is about, it brings about.

    def need(self, *, waiting: int = 0, running: int = 0) -> None:
        missing = running - len(self.model.those(RUNNING))
        while len(self.model.those(WAITING)) < waiting + max(0, missing) or not self.model.kept:
            self.step(call("jobs.enqueue", self.new_job(0, PLAIN)))
        if missing > 0:
            self.step(call("claims.claim", self.worker(WORKERS[0]), self.endpoints, missing, LEASE_S))

    @initialize(many=st.lists(SUBMISSIONS, min_size=3, max_size=6), worker=WORKER)
    def begin(self, many, worker):
        for number, wishes in enumerate(many):
            self.step(call("jobs.enqueue", self.new_job(number, wishes)))
        self.step(call("claims.claim", self.worker(worker), self.endpoints, 2, LEASE_S))

    @rule(number=NUMBERS, wishes=SUBMISSIONS, is_refused=st.sampled_from([False, False, False, True]))
    def submit(self, number, wishes, is_refused):
        if len(self.model.those(WAITING)) > 4:
            self.step(call("claims.claim", self.worker(WORKERS[-1]), self.endpoints, 2, LEASE_S))
        job = self.new_job(number, wishes)
        if is_refused:
            end_ms = min(job.expires_ms or DAY_MS**2, job.created_ms + wishes["retention_ms"])
            job = dataclasses.replace(job, status=FAILED, error=ERROR, finished_ms=job.created_ms, expires_ms=end_ms)
        self.step(call("jobs.enqueue", job))

    @rule(wishes=SUBMISSIONS, name=st.sampled_from(["one", "one", "two"]), body=st.sampled_from(["a", "a", "b"]))
    def submit_once(self, wishes, name, body):
        self.step(call("jobs.enqueue", self.new_job(0, wishes), IdempotencyKey(name, body)))

    @rule(
        worker=WORKER,
        limit=st.integers(1, 3),
        where=st.sampled_from([[0, 1], [0, 1], [0], [1]]),
        wishes=st.lists(SUBMISSIONS, max_size=2),
        names=AFFINITIES,
    )
    def claim(self, worker, limit, where, wishes, names):
        for number, wish in enumerate(wishes):
            self.step(call("jobs.enqueue", self.new_job(number, wish)))
        self.need(waiting=1)
        endpoints = [self.endpoints[i] for i in where]
        self.step(call("claims.claim", self.worker(worker), endpoints, limit, LEASE_S, **self.wish(names)))

    @rule(workers=st.lists(st.tuples(WORKER, AFFINITIES), min_size=2, max_size=3))
    def claim_at_once(self, workers):
        self.need(waiting=2)
        # One job each: PostgreSQL may share out more of them in an order that no queue would give.
        claims = [(self.worker(name), self.wish(names)) for name, names in workers]
        self.step(*(call("claims.claim", name, self.endpoints, 1, LEASE_S, **wish) for name, wish in claims))

    @rule(number=NUMBERS, outcome=OUTCOME, token=st.sampled_from(["held", "held", "none"]))
    def finish(self, number, outcome, token):
        self.need(running=1)
        self.step(call("claims.finish", *self.reporter(self.pick(number, RUNNING), token=token), outcome))

    @rule(number=NUMBERS, outcome=OUTCOME, who=REPORTERS, token=TOKENS, is_running=st.booleans())
    def report(self, number, outcome, who, token, is_running):
        """Often of one who has lost the job, or has reported before."""
        self.need()
        kept = self.pick(number, *([RUNNING] if is_running else [FAILED, COMPLETED, WAITING]))
        self.step(call("claims.finish", *self.reporter(kept, who, token), outcome))

    @rule(number=NUMBERS, outcomes=st.tuples(OUTCOME, OUTCOME), token=TOKENS)
    def finish_twice(self, number, outcomes, token):
        self.need(running=1)
        kept = self.pick(number, RUNNING)
        for outcome in outcomes:
            self.step(call("claims.finish", *self.reporter(kept, token=token), outcome))

    def pass_on(self, kind: str, reporter: tuple[str, str, int | None]) -> None:
        news = {"step": self.steps}
        if kind == "news":
            self.step(call("claims.set_progress", *reporter, news))
        else:
            self.step(call("claims.append_chunk", *reporter, self.steps, *([news] if kind == "both" else [])))

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=3), kind=KINDS)
    def send(self, numbers, kind):
        self.need(running=1)
        for number in numbers:
            self.pass_on(kind, self.reporter(self.pick(number, RUNNING)))

    @rule(number=NUMBERS, kind=KINDS, who=REPORTERS, token=TOKENS)
    def send_late(self, number, kind, who, token):
        self.need()
        self.pass_on(kind, self.reporter(self.pick(number, *([RUNNING] if number % 2 else [])), who, token))

    @rule(number=NUMBERS, readers=st.lists(st.sampled_from(["key-a", "key-a", "key-b"]), min_size=1, max_size=2))
    def read_chunks(self, number, readers):
        self.need()
        client = self.client_of(self.pick(number, *([RUNNING] if number % 2 else [])))
        self.step(*(call("jobs.take_chunks", *client, reader, 0) for reader in readers))

    @rule(number=NUMBERS, is_running=st.booleans())
    def cancel(self, number, is_running):
        self.need()
        self.step(call("jobs.cancel", *self.client_of(self.pick(number, *([RUNNING] if is_running else [])))))

    @rule(number=NUMBERS, wanted=st.sampled_from([TIMED_OUT, TIMED_OUT, FAILED, None]), is_regretted=st.booleans())
    def retry(self, number, wanted, is_regretted):
        self.need()
        client = self.client_of(self.pick(number, *([wanted] if wanted else [])))
        self.step(call("jobs.retry", *client))
        if is_regretted:
            self.step(call("jobs.cancel", *client))

    @rule(number=NUMBERS, ttl_ms=st.sampled_from([1, 15_000, 100_000]))
    def set_ttl(self, number, ttl_ms):
        self.need()
        self.step(call("jobs.set_ttl", *self.client_of(self.pick(number)), ttl_ms))

    @rule(where=st.integers(0, 1))
    def purge(self, where):
        self.step(call("jobs.purge", self.endpoints[where]))

    @rule(worker=WORKER)
    def take_stops(self, worker):
        self.step(call("claims.wait_for_stops", self.worker(worker), 0))

    @rule(worker=WORKER)
    def renew(self, worker):
        self.step(call("claims.renew", self.worker(worker), list(self.model.kept), LEASE_S))

    def look_after(self, deed: str) -> None:
        match deed:
            case "sweep":
                self.step(call("claims.sweep", MAX_RETRIES))
            case "claim":
                self.step(call("claims.claim", self.worker(WORKERS[0]), self.endpoints, 3, LEASE_S))
            case "erase":
                self.step(call("retention.erase_expired"))
            case "complete":
                self.need(running=1)
                self.step(call("claims.finish", *self.reporter(self.pick(0, RUNNING)), OUTCOMES[0]))
            case _:
                self.step(call("jobs.counts", self.endpoints[0]))

    @rule(seconds=st.sampled_from([1, 10, 25]), deed=DEEDS)
    def pass_time(self, seconds, deed):
        """Until somebody sweeps, what is over is out of sight all the same."""
        self.clock.advance(s=seconds)
        self.look_after(deed)

    @rule(which=st.integers(0, 2), early_ms=st.sampled_from([0, 0, 1]), deed=DEEDS)
    def pass_time_to_the_brink(self, which, early_ms, deed):
        self.need(running=1)
        moments = self.moments() or [1_000]
        self.clock.advance(ms=moments[which % len(moments)] - early_ms)
        self.look_after(deed)

    @rule(prefix=st.sampled_from(["node-1-", "node-2-a", "node-"]), counts_as_retry=st.booleans())
    def release(self, prefix, counts_as_retry):
        options = {"counts_as_retry": counts_as_retry, "max_retries": MAX_RETRIES}
        self.step(call("claims.release", self.worker(prefix), **options))

    @rule(worker=WORKER, counts_as_retry=st.booleans())
    def release_worker(self, worker, counts_as_retry):
        options = {"counts_as_retry": counts_as_retry, "max_retries": MAX_RETRIES}
        self.step(call("claims.release_worker", self.worker(worker), **options))

    @rule(number=NUMBERS)
    def ask_for_the_place(self, number):
        self.need()
        self.step(call("jobs.queue_position", plain(self.pick(number, WAITING).job)))

    @rule(is_forgotten=st.booleans())
    def clean_up(self, is_forgotten):
        self.step(call("retention.erase_expired"))
        if is_forgotten:
            self.step(call("retention.forget", self.clock.now_ms()))

    @rule(number=NUMBERS, kinds=st.lists(st.sampled_from(RACERS), min_size=2, max_size=3))
    def race(self, number, kinds):
        self.need()
        self.step(*(self.racer(kind, number) for kind in kinds))

    @rule(reports=st.lists(st.tuples(NUMBERS, OUTCOME, REPORTERS, TOKENS), min_size=2, max_size=4))
    def report_at_once(self, reports):
        self.need(running=2)
        running = [(self.pick(number, RUNNING), *report) for number, *report in reports]
        self.step(
            *(call("claims.finish", *self.reporter(kept, who, token), result) for kept, result, who, token in running)
        )

    @rule()
    def restart(self):
        """Not often: it takes as long as ten other steps."""
        if self.steps - self.last_restart > STEPS // 2:
            self.last_restart = self.steps
            self.world.close()
            self.world.open()
        self.step(call("jobs.counts", self.endpoints[0]))


@pytest.fixture(params=HISTORIES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def world(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[World]:
    def new_url() -> str:
        if database == "sqlite":
            return f"sqlite:///{tmp_path}/{len(list(tmp_path.iterdir()))}/jobs.db"
        return request.getfixturevalue("empty_postgres")()

    # Only a PostgreSQL server may have several gateways.
    world = World(new_url, gateways=1 if database == "sqlite" else 2)
    yield world
    world.close()
    world.runner.close()


@pytest.mark.slow
def test_the_store_answers_as_the_model_does(world, database):
    asked_for = os.environ.get("HISTORIES")
    profile = settings(
        max_examples=int(asked_for or HISTORIES[database]),
        stateful_step_count=STEPS,
        derandomize=not asked_for,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        # Shortening takes minutes.
        phases=[Phase.generate, Phase.shrink] if asked_for else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: JobHistories(world), settings=profile)
