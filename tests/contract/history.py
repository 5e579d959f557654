"""One history: what is asked of the store and of the model, step by step, and how they are compared."""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import Conflict, LeaseLost, ResultErased, UnknownJob
from flux_endpoint.core.job import Claim, Job, JobStatus, SweepResult
from flux_endpoint.core.periods import MS_PER_HOUR
from flux_endpoint.core.webhook import Attempt, DeliveryState
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.retention.protocol import Forgotten
from tests.contract.model_store import A_REASON, DAY_MS, RUNNING, WAITING, Kept, ModelStore
from tests.contract.samples import COST_USD, LEASE_S

# The state is compared at every so many steps: what is wrong stays wrong.
STEPS_PER_CHECK = 3
MAX_RETRIES = 1
WORKERS = ["node-1-a", "node-1-b", "node-2-a"]
# The words of a worker; the store finds others.
ERROR = "out of memory"


@dataclass(frozen=True)
class Call:
    """A verb of one of the stores with its arguments."""

    noun: str
    verb: str
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        args = [f"job {arg.id}" if isinstance(arg, Job) else repr(arg) for arg in self.args]
        return f"{self.verb}({', '.join(args)}) {self.options or ''}"

    async def on(self, stores: Stores) -> Any:
        try:
            return plain(await getattr(getattr(stores, self.noun), self.verb)(*self.args, **self.options))
        except (Conflict, LeaseLost, ResultErased, UnknownJob) as error:
            return type(error)

    def on_model(self, model: ModelStore) -> Any:
        try:
            return plain(getattr(model, self.verb)(*self.args, **self.options))
        except (Conflict, LeaseLost, ResultErased, UnknownJob) as error:
            return type(error)


def call(name: str, *args: Any, **options: Any) -> Call:
    """A call by its whole name, such as `jobs.enqueue`."""
    noun, _, verb = name.partition(".")
    return Call(noun, verb, args, options)


def plain(answer: Any) -> Any:
    """An answer without what the contract leaves open: the order of sets, the words of an error."""
    match answer:
        case Job(error=str(error)) if error != ERROR:
            return dataclasses.replace(answer, error=A_REASON)
        case Claim(job=job):
            return dataclasses.replace(answer, job=plain(job))
        case SweepResult():
            return [sorted(ids) for ids in (answer.requeued, answer.failed, answer.timed_out)]
        case (Job() as job, list(chunks)):
            return plain(job), chunks
        case Forgotten():
            return answer.jobs
        case [str(), *_]:
            return sorted(answer)
        case [*answers]:
            return [plain(each) for each in answers]
    return answer


class World:
    """What outlives a history: the clock and the database, which each one leaves as empty as it found it.

    Args:
        new_url: makes an empty database.
        gateways: how many stores are open on it.
    """

    def __init__(self, new_url: Callable[[], str], gateways: int) -> None:
        self.new_url = new_url
        self.gateways = gateways
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.histories = 0
        self.url = new_url()
        self.open()

    def do(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def open(self) -> None:
        self.opened = [self.do(open_stores(self.url, self.clock)) for _ in range(self.gateways)]

    def close(self) -> None:
        for stores in self.opened:
            self.do(stores.close())

    def start_anew(self) -> None:
        self.close()
        self.url = self.new_url()
        self.open()


class History(RuleBasedStateMachine):
    """Asks the store and the model the same. The rules, which say what, are in `test_random_histories.py`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.clock, self.do = world, world.clock, world.do
        world.histories += 1
        self.name = f"h{world.histories}"
        self.endpoints = [f"{self.name}-dev", f"{self.name}-schnell"]
        self.model = ModelStore(self.clock)
        self.steps = self.sent = self.last_restart = 0
        self.is_sound = True

    # How a step is taken.

    def stores(self, number: int = 0) -> Stores:
        """Each step goes to another gateway; of those that meet several calls, every second one shares them out."""
        opened = self.world.opened
        return opened[(self.steps + number * (self.steps // 2 % 2)) % len(opened)]

    def step(self, *calls: Call) -> None:
        """Ask all at once. The answers and what is left must be those of the model in one order of the calls."""
        self.is_sound = False
        self.steps += 1
        for each in calls:
            note(str(each))

        async def ask() -> list[Any]:
            return await asyncio.gather(*(each.on(self.stores(i)) for i, each in enumerate(calls)))

        answers = self.do(ask())
        fitting, expected = [], []
        for order in permutations(range(len(calls))):
            model = self.model.copy() if len(calls) > 1 else self.model
            predicted = {i: calls[i].on_model(model) for i in order}
            expected.append([predicted[i] for i in range(len(calls))])
            if expected[-1] == answers:
                fitting.append(model)
        assert fitting, f"answered {answers}, expected one of {expected}"
        if len(calls) > 1 or self.steps % STEPS_PER_CHECK == 0:
            state = self.state()
            states = [self.state_of(model) for model in fitting]
            assert state in states, f"found {state}, expected one of {states}"
            self.model = fitting[states.index(state)]
        self.is_sound = True

    def state(self) -> list[Any]:
        """Everything a client, an onlooker or a bill can show."""

        async def look() -> list[Any]:
            stores = self.stores()
            figures = [job for name in self.endpoints for job in (await stores.jobs.recent(name, [], 1_000))[0]]
            jobs = [await call("jobs.get", job.endpoint_id, job.id).on(stores) for job in figures]
            charges = [
                (entry.job_id, entry.created_ms, entry.key_id, entry.amount_usd)
                for entry in await stores.accounts.entries(self.name)
            ]
            told = [(record.job_id, record.status) for record in await stores.webhooks.deliveries(limit=1_000)]
            return [plain(figures), jobs, sorted(charges), sorted(told)]

        return self.do(look())

    def state_of(self, model: ModelStore) -> list[Any]:
        hidden = {"input": {}, "output": None, "webhook": None, "bucket": None, "progress": None}
        jobs = [k.job for name in self.endpoints for k in reversed(model.kept.values()) if k.job.endpoint_id == name]
        jobs.sort(key=lambda job: (self.endpoints.index(job.endpoint_id), -job.created_ms))
        figures = [dataclasses.replace(job, **hidden) for job in jobs]
        charges = [(job_id, created_ms, self.name, COST_USD) for job_id, created_ms in model.charged]
        seen = [call("jobs.get", job.endpoint_id, job.id).on_model(model) for job in jobs]
        return [figures, seen, sorted(charges), sorted(model.told)]

    def check_ends(self) -> None:
        """A job ends once, and once more for each retry; it is charged once when it was completed, else never."""
        charged = [job_id for job_id, _ in self.model.charged]
        assert len(charged) == len(set(charged))
        for job_id, kept in self.model.kept.items():
            is_over = kept.job.status.is_terminal
            assert self.model.ends[job_id] == self.model.retried[job_id] + is_over
            assert (job_id in charged) == (kept.job.status is JobStatus.COMPLETED)

    # What a step is about.

    def worker(self, name: str) -> str:
        return f"{self.name}-{name}"

    def pick(self, number: int, *statuses: JobStatus) -> Kept:
        """One of the jobs in these states if there are any, else of all; 0 for the latest."""
        those = self.model.those(*statuses) or list(self.model.kept.values())
        return those[-1 - number % len(those)]

    def client_of(self, kept: Kept) -> tuple[str, str]:
        return kept.job.endpoint_id, kept.job.id

    def reporter(self, kept: Kept, who: str = "holder", token: str = "held") -> tuple[str, str, int | None]:
        is_holder = who == "holder" and kept.job.worker_id is not None
        worker_id = kept.job.worker_id if is_holder else self.worker(WORKERS[0] if who == "holder" else who)
        tokens = {"held": kept.job.claim_token, "old": kept.job.claim_token - 1, "none": None}
        return kept.job.id, worker_id, tokens[token]

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self.finish_all()
        except BaseException:
            self.is_sound = False
            raise
        finally:
            if not self.is_sound:
                self.world.start_anew()

    def finish_all(self) -> None:
        """Let everything end, be told and be forgotten; only charges stay."""
        self.clock.advance(s=LEASE_S)
        self.step(call("claims.sweep", MAX_RETRIES))
        for endpoint_id in self.endpoints:
            self.step(call("jobs.counts", endpoint_id))
            self.step(call("jobs.purge", endpoint_id))
        for name in WORKERS:
            self.step(call("claims.wait_for_stops", self.worker(name), 0))
        assert not self.model.those(WAITING, RUNNING)
        self.check_ends()
        self.clock.advance(days=2)
        self.step(call("retention.erase_expired"))
        self.do(self.deliver())
        self.step(call("retention.forget", self.clock.now_ms()))
        assert self.state()[:2] == [[], []]

    async def deliver(self) -> None:
        stores, start_ms = self.stores(), self.clock.now_ms() - 100 * DAY_MS
        deliveries = await stores.webhooks.claim_due("gateway", 10_000, 10_000, 1_000)
        assert sorted((each.job.id, each.job.status) for each in deliveries) == sorted(self.model.told)
        for delivery in deliveries:
            assert await stores.webhooks.report(delivery, Attempt(DeliveryState.DELIVERED))
        self.clock.advance(ms=1)
        self.model.told.clear()
        hour_ms = start_ms - start_ms % MS_PER_HOUR
        sums = await stores.accounts.usage(hour_ms, self.clock.now_ms() + MS_PER_HOUR, MS_PER_HOUR, self.name)
        assert sum(each.charges for each in sums) == len(self.model.charged)
        assert sum(each.amount_usd for each in sums) == COST_USD * len(self.model.charged)
