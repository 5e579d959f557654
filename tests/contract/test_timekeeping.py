"""One time for all gateways on a database, also when clocks are wrong, are set, or stand still."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flux_endpoint.api.dialects.runpod.jobs import new_job_id
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.errors import UnknownJob
from flux_endpoint.core.job import Completed, Job, JobStatus, Policy
from flux_endpoint.images.object_store import open_image_store
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.janitor import Janitor
from flux_endpoint.service.metrics import MetricsService
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.jobs import statements as sql
from tests.contract.samples import DEV

pytestmark = pytest.mark.anyio

LEASE_S = 30.0
NO_WEBHOOKS = SimpleNamespace(outcomes={})
HOUR_S = 3_600
# What a test itself may take.
SLACK_MS = 5_000


class TimeOfDay:
    """Real time, and what a test adds to it.

    Attributes:
        passed_ms: time that passed for everybody, in no time.
        set_ms: how far the clock that the gateways share was set.
    """

    def __init__(self) -> None:
        self.passed_ms = 0
        self.set_ms = 0
        self._postgres: Any = None

    def rule(self, server: Any) -> str:
        """Let this be the clock of a PostgreSQL server; returns what a URL of it must have added."""
        self._postgres = server
        server.psql(
            "CREATE TABLE public.skew (ms bigint); INSERT INTO public.skew VALUES (0);"
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$"
            " SELECT pg_catalog.clock_timestamp() + (SELECT ms FROM public.skew) * interval '1 ms' $$;"
        )
        return "&search_path=public,pg_catalog"

    def pass_s(self, seconds: float) -> None:
        self.passed_ms += round(seconds * 1_000)
        self._tell()

    def jump_s(self, seconds: float) -> None:
        self.set_ms += round(seconds * 1_000)
        self._tell()

    def wall_ns(self) -> int:
        return time.time_ns() + (self.passed_ms + self.set_ms) * 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + self.passed_ms * 1_000_000

    def wall_ms(self) -> int:
        return self.wall_ns() // 1_000_000

    def _tell(self) -> None:
        if self._postgres is not None:
            self._postgres.psql(f"UPDATE public.skew SET ms = {self.passed_ms + self.set_ms};")


@dataclass
class Gateway:
    """What of a gateway has to do with time."""

    stores: Stores
    clock: SystemClock
    workforce: Workforce
    janitor: Janitor
    metrics: MetricsService

    async def claim(self, **changes: Any) -> Job:
        """A job in the hands of the worker `w`, its lease begun."""
        now_ms = self.clock.now_ms()
        fields: dict[str, Any] = {"expires_ms": now_ms + 86_400_000, "policy": Policy(execution_timeout_ms=600_000)}
        job = Job(
            id=new_job_id(sync=False),
            endpoint_id=DEV,
            status=JobStatus.IN_QUEUE,
            input={},
            key_id="key-1",
            cost_usd=Decimal("0.01"),
            created_ms=now_ms,
            queued_ms=now_ms,
            **(fields | changes),
        )
        await self.stores.jobs.enqueue(job)
        (claim,) = await self.workforce.take("w", [DEV], hold_s=0)
        return claim.job

    async def status(self, job: Job) -> JobStatus:
        return (await self.stores.jobs.get(DEV, job.id)).status


OpenGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def day() -> TimeOfDay:
    return TimeOfDay()


@pytest.fixture
async def open_gateway(request: pytest.FixtureRequest, database_url: str, day: TimeOfDay, tmp_path: Path):
    """Opens gateways on one database; `wall_ns` and `monotonic_ns` are those of their machines."""
    url = database_url
    if url.startswith("postgresql"):
        url += day.rule(request.getfixturevalue("postgres_server"))

    async def gateways() -> AsyncIterator[OpenGateway]:
        async with AsyncExitStack() as stack:

            async def open_one(**machine: Callable[[], int]) -> Gateway:
                clock = SystemClock(**({"wall_ns": day.wall_ns, "monotonic_ns": day.monotonic_ns} | machine))
                stores = await open_stores(url, clock)
                stack.push_async_callback(stores.close)
                images = ImageService(open_image_store(str(tmp_path / "images")), clock)
                # No picture is handed in here.
                workforce = Workforce(stores.claims, stores.workers, None, FLUX_ENDPOINTS, clock, LEASE_S)
                counted = stores.activity, stores.accounts, workforce, Pictures(None, None, None, None), NO_WEBHOOKS
                metrics = MetricsService(*counted, [DEV], clock, "open")
                kept = stores.retention, stores.pictures, workforce, images, clock, stores.timekeeper
                janitor = Janitor(*kept, on_clock_moved=metrics.clock_moved)
                await janitor.sweep()
                return Gateway(stores, clock, workforce, janitor, metrics)

            yield open_one

    async for opener in gateways():
        yield opener


def near(first_ms: int, second_ms: int) -> bool:
    return abs(first_ms - second_ms) < SLACK_MS


@pytest.mark.parametrize("jump_s", [31, HOUR_S, 2 * 86_400, -31, -HOUR_S])
async def test_a_clock_that_is_set_takes_no_running_job(open_gateway: OpenGateway, day: TimeOfDay, jump_s: int) -> None:
    gateway = await open_gateway()
    job = await gateway.claim()
    for _ in range(3):
        day.pass_s(2)
        day.jump_s(jump_s)
        await gateway.janitor.sweep()
        assert await gateway.status(job) is JobStatus.IN_PROGRESS
        await gateway.workforce.ping("w", [DEV], [job.id])
    done = await gateway.stores.claims.finish(job.id, "w", None, Completed({"n": 1}))
    assert (done.status, done.retries) == (JobStatus.COMPLETED, 0)
    assert done.execution_time_ms is not None and near(done.execution_time_ms, 6_000)
    assert near(gateway.clock.now_ms(), day.wall_ms())


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_a_clock_that_is_set_prolongs_nothing(open_gateway: OpenGateway, day: TimeOfDay, jump_s: int) -> None:
    """What is silent, too slow, or too old ends when it would have; only the sweep spares it for one lease."""
    gateway = await open_gateway()
    silent = await gateway.claim()
    slow = await gateway.claim(policy=Policy(execution_timeout_ms=40_000))
    old = await gateway.claim(policy=Policy(ttl_ms=40_000), expires_ms=gateway.clock.now_ms() + 40_000)
    ended = await gateway.claim(retention_ms=50_000)
    await gateway.stores.claims.finish(ended.id, "w", None, Completed({"secret": "lake"}))
    day.pass_s(2)
    day.jump_s(jump_s)
    await gateway.janitor.sweep()
    for _ in range(3):
        day.pass_s(15)
        await gateway.janitor.sweep()
        await gateway.workforce.ping("w", [DEV], [slow.id, old.id])
    assert await gateway.status(silent) is JobStatus.IN_QUEUE
    assert await gateway.status(slow) is JobStatus.TIMED_OUT
    # Nobody can read it any more.
    by_id = {"job": old.id}
    row = await gateway.stores.database.read(lambda connection: connection.execute(sql.GET_JOB_BY_ID, by_id).first)
    assert row.status == JobStatus.TIMED_OUT
    assert await gateway.status(ended) is JobStatus.COMPLETED
    day.pass_s(10)
    await gateway.janitor.sweep()
    with pytest.raises(UnknownJob):
        await gateway.stores.jobs.get(DEV, ended.id)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_a_clock_that_is_set_counts_no_job_twice_and_forgets_none(
    open_gateway: OpenGateway, day: TimeOfDay, jump_s: int
) -> None:
    gateway = await open_gateway()

    async def figures() -> tuple[int, Decimal]:
        day.pass_s(6)
        await gateway.janitor.sweep()
        seen = await gateway.metrics.read()
        return seen.ended[DEV, JobStatus.COMPLETED], seen.spent_usd[DEV]

    assert await figures() == (0, 0)
    for number in range(1, 4):
        job = await gateway.claim(retention_ms=86_400_000)
        await gateway.stores.claims.finish(job.id, "w", None, Completed({"n": 1}))
        assert await figures() == (number, number * Decimal("0.01"))
        day.jump_s(jump_s)
        assert await figures() == (number, number * Decimal("0.01"))


async def test_a_machine_that_slips_by_less_than_a_second_is_followed_silently(
    open_gateway: OpenGateway, day: TimeOfDay
) -> None:
    gateway = await open_gateway()
    job = await gateway.claim()
    before_ms = (await gateway.stores.jobs.get(DEV, job.id)).created_ms
    day.pass_s(2)
    day.jump_s(0.9)
    await gateway.janitor.sweep()
    assert (await gateway.stores.jobs.get(DEV, job.id)).created_ms == before_ms
    assert abs(gateway.clock.now_ms() - day.wall_ms()) < 500


class TestSeveralGateways:
    """Only PostgreSQL has several."""

    @pytest.fixture
    def database_url(self, postgres_url: str) -> str:
        return postgres_url

    @pytest.mark.parametrize("skew_s", [20, 27, 40, 45, -40, HOUR_S, -HOUR_S])
    async def test_a_gateway_whose_machine_is_wrong_takes_no_job_of_another(
        self, open_gateway: OpenGateway, day: TimeOfDay, skew_s: int
    ) -> None:
        right = await open_gateway()
        wrong = await open_gateway(wall_ns=lambda: day.wall_ns() + skew_s * 10**9)
        assert near(right.clock.now_ms(), wrong.clock.now_ms())
        job, other = await right.claim(), await wrong.claim()
        for _ in range(4):
            day.pass_s(10)
            await wrong.janitor.sweep()
            await right.janitor.sweep()
            await right.workforce.ping("w", [DEV], [job.id])
            await wrong.workforce.ping("w", [DEV], [other.id])
            assert await right.status(job) is await right.status(other) is JobStatus.IN_PROGRESS
        assert (await right.workforce.counts(DEV)).running == (await wrong.workforce.counts(DEV)).running == 1

    @pytest.mark.parametrize("jump_s", [31, HOUR_S, -31, -HOUR_S])
    async def test_a_jump_that_all_see_moves_everything_once(
        self, open_gateway: OpenGateway, day: TimeOfDay, jump_s: int
    ) -> None:
        gateways = [await open_gateway() for _ in range(3)]
        job = await gateways[0].claim()
        for round_number in range(2):
            day.pass_s(2)
            day.jump_s(jump_s)
            for gateway in gateways:
                await gateway.janitor.sweep()
            await gateways[0].workforce.ping("w", [DEV], [job.id])
            moved = await gateways[1].stores.jobs.get(DEV, job.id)
            assert near(moved.created_ms, job.created_ms + (round_number + 1) * jump_s * 1_000)
            assert moved.status is JobStatus.IN_PROGRESS

    @pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
    async def test_a_lease_renewed_by_a_gateway_that_has_not_noticed_yet_is_spared(
        self, open_gateway: OpenGateway, day: TimeOfDay, jump_s: int
    ) -> None:
        first, late = await open_gateway(), await open_gateway()
        job = await late.claim()
        day.pass_s(2)
        day.jump_s(jump_s)
        await first.janitor.sweep()
        await late.workforce.ping("w", [DEV], [job.id])
        day.pass_s(2)
        for gateway in (first, late):
            await gateway.janitor.sweep()
            assert await gateway.status(job) is JobStatus.IN_PROGRESS
        day.pass_s(8)
        await late.workforce.ping("w", [DEV], [job.id])
        day.pass_s(LEASE_S - 5)
        for gateway in (first, late):
            await gateway.janitor.sweep()
            assert await gateway.status(job) is JobStatus.IN_PROGRESS
        day.pass_s(6)
        await first.janitor.sweep()
        assert await first.status(job) is JobStatus.IN_QUEUE

    async def test_a_paused_machine_moves_nobodys_time(self, open_gateway: OpenGateway, day: TimeOfDay) -> None:
        awake = await open_gateway()
        paused_ms = 0
        paused = await open_gateway(monotonic_ns=lambda: day.monotonic_ns() - paused_ms * 1_000_000)
        await paused.janitor.sweep()
        job = await awake.claim()
        # An hour for everybody else: its own clock stood still.
        for _ in range(4):
            day.pass_s(LEASE_S / 2)
            await awake.janitor.sweep()
            await awake.workforce.ping("w", [DEV], [job.id])
        paused_ms = round(4 * LEASE_S / 2 * 1_000)
        await paused.janitor.sweep()
        after = await awake.stores.jobs.get(DEV, job.id)
        assert (after.status, after.created_ms) == (JobStatus.IN_PROGRESS, job.created_ms)
        assert near(paused.clock.now_ms(), awake.clock.now_ms())

    async def test_commands_tell_the_database_s_time(self, open_gateway: OpenGateway, day: TimeOfDay) -> None:
        day.jump_s(-HOUR_S)
        command = await open_gateway(wall_ns=lambda: 5_000_000)
        assert near(command.clock.now_ms(), day.wall_ms())
