"""Monthly budgets and the sums of the ledger, on every database."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from flux_endpoint.core.account import ApiKey, ChargeSum, KeyLimits, UsageSum
from flux_endpoint.core.activity import EndpointLoad, PastRun
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import OverBudget, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus
from flux_endpoint.core.periods import MS_PER_DAY, MS_PER_HOUR
from flux_endpoint.stores.connect import open_stores
from flux_endpoint.stores.sql import migrate
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

USD = Decimal(1)


async def add_key(stores, usd_per_month=None, key_id="key-1"):
    limits = KeyLimits(usd_per_month=None if usd_per_month is None else Decimal(usd_per_month))
    await stores.accounts.add_key(ApiKey(key_id, f"name of {key_id}", 0, limits=limits), f"hash of {key_id}")


async def complete(stores, clock, **changes):
    job = await stores.jobs.enqueue(sample_job(clock, **changes))
    (claim,) = await stores.claims.claim("worker-a", [job.endpoint_id], 1, LEASE_S)
    return await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({}))


def move_to(clock, *date):
    clock.advance(ms=round(datetime(*date, tzinfo=UTC).timestamp() * 1_000) - clock.now_ms())


async def test_a_key_keeps_its_limits(stores):
    limits = KeyLimits(True, frozenset({DEV, SCHNELL}), Decimal("12.34567891"), 60)
    await stores.accounts.add_key(ApiKey("key-1", "one", created_ms=5, limits=limits), "hash-1")
    assert (await stores.accounts.find_key("hash-1")).limits == limits
    other = KeyLimits(requests_per_minute=1)
    assert await stores.accounts.limit_key("key-1", other) is True
    assert await stores.accounts.list_keys() == [ApiKey("key-1", "one", created_ms=5, limits=other)]
    assert await stores.accounts.limit_key("key-1", KeyLimits()) is True
    assert await stores.accounts.find_key("hash-1") == ApiKey("key-1", "one", created_ms=5)
    assert await stores.accounts.limit_key("key-2", other) is False


async def test_a_key_keeps_the_chosen_model(stores):
    await stores.accounts.add_key(ApiKey("key-1", "one", created_ms=5), "hash-1")
    await stores.accounts.choose_model("key-1", SCHNELL)
    assert await stores.accounts.find_key("hash-1") == ApiKey("key-1", "one", created_ms=5, chosen_model=SCHNELL)


async def test_the_last_cent_may_be_spent_and_no_more(stores, clock):
    await add_key(stores, "2.00000001")
    for _ in range(2):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    with pytest.raises(OverBudget):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal("0.00000002")))
    await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal("0.00000001")))
    # What costs nothing is never over budget.
    await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal(0)))


async def test_a_refused_job_leaves_no_trace(stores, clock):
    await add_key(stores, "0.5")
    job = sample_job(clock, cost_usd=USD)
    with pytest.raises(OverBudget):
        await stores.jobs.enqueue(job)
    with pytest.raises(UnknownJob):
        await stores.jobs.get(DEV, job.id)
    assert await stores.claims.claim("worker-a", [DEV], 1, LEASE_S) == []
    await stores.accounts.limit_key("key-1", KeyLimits(usd_per_month=USD))
    await stores.jobs.enqueue(job)


async def test_the_error_says_what_is_spent_promised_and_when_it_starts_anew(stores, clock):
    move_to(clock, 2026, 12, 31, 23)
    await add_key(stores, 1_500)
    await complete(stores, clock, cost_usd=Decimal("1000.5"))
    await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal(499)))
    with pytest.raises(OverBudget) as caught:
        await stores.jobs.enqueue(sample_job(clock, cost_usd=Decimal("0.52097152")))
    assert str(caught.value) == (
        "over budget: API key 'name of key-1' may spend 1,500.00 USD in December 2026; 1,000.50 USD are spent, "
        "499.00 USD are promised to unfinished jobs and this job costs 0.52097152 USD; the budget starts anew on "
        "2027-01-01 at 00:00 UTC"
    )


async def test_a_job_that_ends_without_a_charge_gives_its_promise_back(stores, clock):
    await add_key(stores, 1)

    async def is_free():
        try:
            job = await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
        except OverBudget:
            return False
        await stores.jobs.cancel(DEV, job.id)
        return True

    job = await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    assert not await is_free()
    await stores.jobs.cancel(DEV, job.id)
    assert await is_free()
    job = await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    assert not await is_free()
    await stores.claims.finish(job.id, "worker-a", claim.token, Failed("no"))
    assert await is_free()


async def test_a_retry_is_paid_from_the_budget_too(stores, clock):
    await add_key(stores, 1)
    job = await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    await stores.claims.finish(job.id, "worker-a", claim.token, Failed("no"))
    other = await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    with pytest.raises(OverBudget):
        await stores.jobs.retry(DEV, job.id)
    assert (await stores.jobs.get(DEV, job.id)).status is JobStatus.FAILED
    await stores.jobs.cancel(DEV, other.id)
    assert (await stores.jobs.retry(DEV, job.id)).status is JobStatus.IN_QUEUE


async def test_a_budget_starts_anew_with_the_month(stores, clock):
    move_to(clock, 2026, 11, 30, 23, 59)
    await add_key(stores, 1)
    await complete(stores, clock, cost_usd=USD)
    with pytest.raises(OverBudget):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    move_to(clock, 2026, 12, 1)
    await complete(stores, clock, cost_usd=USD)
    with pytest.raises(OverBudget):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))


async def test_keys_have_budgets_of_their_own(stores, clock):
    await add_key(stores, 1)
    await add_key(stores, None, "key-2")
    await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))
    for _ in range(3):
        await stores.jobs.enqueue(sample_job(clock, key_id="key-2", cost_usd=USD))
        await stores.jobs.enqueue(sample_job(clock, key_id="no such key", cost_usd=USD))


async def test_many_gateways_at_once_never_spend_more_than_the_budget(stores, open_another, clock):
    await add_key(stores, 7)
    gateways = [stores, await open_another(), await open_another()]

    async def try_one(number):
        try:
            await gateways[number % 3].jobs.enqueue(sample_job(clock, cost_usd=USD))
        except OverBudget:
            return False
        return True

    queued = await asyncio.gather(*map(try_one, range(40)))
    assert sum(queued) == 7
    assert (await stores.jobs.counts(DEV)).in_queue == 7


async def test_jobs_that_finish_meanwhile_are_counted_once(stores, open_another, clock):
    """A promise becomes a charge in one step: whoever adds up sees the one or the other."""
    await add_key(stores, 20)
    other = await open_another()
    for _ in range(20):
        await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))

    async def work():
        while claims := await other.claims.claim("worker-a", [DEV], 1, LEASE_S):
            await other.claims.finish(claims[0].job.id, "worker-a", claims[0].token, Completed({}))

    async def push():
        for _ in range(20):
            with pytest.raises(OverBudget):
                await stores.jobs.enqueue(sample_job(clock, cost_usd=USD))

    await asyncio.gather(work(), push())
    assert len(await stores.accounts.entries()) == 20


async def test_charges_are_summed_by_hour_and_day(stores, clock):
    move_to(clock, 2026, 3, 1, 22, 59, 59)
    await complete(stores, clock, cost_usd=Decimal("0.1"))
    start_ms = clock.now_ms() - clock.now_ms() % MS_PER_HOUR
    clock.advance(s=1)
    await complete(stores, clock, cost_usd=Decimal("0.2"))
    await complete(stores, clock, cost_usd=Decimal("0.4"), endpoint_id=SCHNELL, key_id="key-2")
    clock.advance(s=3_600)
    await complete(stores, clock, cost_usd=Decimal("0.8"))
    day_ms = start_ms - start_ms % MS_PER_DAY
    end_ms = day_ms + 2 * MS_PER_DAY
    hour_ms = MS_PER_HOUR
    assert await stores.accounts.charges(day_ms, end_ms, MS_PER_HOUR) == [
        ChargeSum(start_ms, 1, Decimal("0.1")),
        ChargeSum(start_ms + hour_ms, 2, Decimal("0.6")),
        ChargeSum(start_ms + 2 * hour_ms, 1, Decimal("0.8")),
    ]
    assert await stores.accounts.charges(day_ms, end_ms, MS_PER_DAY) == [
        ChargeSum(day_ms, 3, Decimal("0.7")),
        ChargeSum(day_ms + MS_PER_DAY, 1, Decimal("0.8")),
    ]
    assert await stores.accounts.charges(start_ms + hour_ms, start_ms + 2 * hour_ms, MS_PER_DAY, "key-1") == [
        ChargeSum(day_ms, 1, Decimal("0.2"))
    ]
    assert await stores.accounts.charges(day_ms, end_ms, MS_PER_DAY, "key-3") == []
    assert await stores.accounts.usage(day_ms, end_ms, MS_PER_DAY) == [
        UsageSum(day_ms, "key-1", DEV, 2, Decimal("0.3")),
        UsageSum(day_ms, "key-2", SCHNELL, 1, Decimal("0.4")),
        UsageSum(day_ms + MS_PER_DAY, "key-1", DEV, 1, Decimal("0.8")),
    ]
    assert await stores.accounts.usage(day_ms, end_ms, MS_PER_DAY, "key-2") == [
        UsageSum(day_ms, "key-2", SCHNELL, 1, Decimal("0.4"))
    ]


async def test_the_sums_are_those_of_the_ledger_under_load(stores, open_another, clock):
    other = await open_another()
    for number in range(60):
        await stores.jobs.enqueue(sample_job(clock, key_id=f"key-{number % 3}", cost_usd=Decimal(number) / 100))

    async def work(mine, name):
        while claims := await mine.claims.claim(name, [DEV], 2, LEASE_S):
            for claim in claims:
                clock.advance(s=200)
                await mine.claims.finish(claim.job.id, name, claim.token, Completed({}))
                # Said twice, charged once.
                await mine.claims.finish(claim.job.id, name, claim.token, Completed({}))

    await asyncio.gather(work(stores, "worker-a"), work(other, "worker-b"), work(other, "worker-c"))
    entries = await stores.accounts.entries()
    assert len(entries) == 60
    for key_id in (None, "key-0", "key-1", "key-2"):
        sums = await stores.accounts.charges(0, clock.now_ms() + MS_PER_HOUR, MS_PER_HOUR, key_id)
        mine = [entry for entry in entries if key_id in (None, entry.key_id)]
        assert sum(part.charges for part in sums) == len(mine)
        assert sum(part.amount_usd for part in sums) == sum(entry.amount_usd for entry in mine)
        expected: dict[int, Decimal] = {}
        for entry in mine:
            hour_ms = entry.created_ms - entry.created_ms % MS_PER_HOUR
            expected[hour_ms] = expected.get(hour_ms, Decimal(0)) + entry.amount_usd
        assert {part.start_ms: part.amount_usd for part in sums} == expected


async def test_the_load_is_what_waits_and_what_runs(stores, clock):
    assert await stores.activity.load(DEV) == EndpointLoad(0, 0)
    for _ in range(5):
        await stores.jobs.enqueue(sample_job(clock))
    await stores.jobs.enqueue(sample_job(clock, endpoint_id=SCHNELL))
    (claim, _) = await stores.claims.claim("worker-a", [DEV], 2, LEASE_S)
    assert await stores.activity.load(DEV) == EndpointLoad(3, 2)
    await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({}))
    assert await stores.activity.load(DEV) == EndpointLoad(3, 1)


async def test_past_runs_are_the_latest_first_and_outlive_the_jobs(stores, clock):
    for steps, level in ((10, {}), (20, {"acceleration": "none"}), (30, {"acceleration": "high"})):
        fields = {"width": 1000, "height": 1000, "num_inference_steps": steps} | level
        await stores.jobs.enqueue(sample_job(clock, input=fields))
        (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
        clock.advance(ms=steps * 100)
        await stores.claims.finish(claim.job.id, "worker-a", claim.token, Completed({}))
    await complete(stores, clock, endpoint_id=SCHNELL)
    clock.advance(days=100)
    await stores.claims.sweep(1)
    assert await stores.activity.past_runs(DEV, 2) == [PastRun(3_000, 30.0, "high"), PastRun(2_000, 20.0, "none")]
    assert len(await stores.activity.past_runs(DEV, 100)) == 3
    assert await stores.activity.past_runs(SCHNELL, 100) == [PastRun(0, 1.0)]


async def test_charges_from_before_the_sums_are_added_up_by_the_upgrade(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrate.Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        columns = "job_id, endpoint_id, key_id, amount_units, created_ms"
        for number in range(5):
            values = {"j": f"job-{number}", "e": DEV, "t": MS_PER_HOUR * 10 + number * MS_PER_HOUR // 3}
            connection.execute(text(f"INSERT INTO ledger ({columns}) VALUES (:j, :e, 'k', 7, :t)"), values)
        connection.execute(text("INSERT INTO api_keys (id, name, secret_hash, created_ms) VALUES ('k', 'old', 'h', 1)"))
    engine.dispose()
    stores = await open_stores(url, SystemClock())
    try:
        assert await stores.accounts.charges(0, MS_PER_DAY, MS_PER_HOUR) == [
            ChargeSum(MS_PER_HOUR * 10, 3, Decimal("0.00000021")),
            ChargeSum(MS_PER_HOUR * 11, 2, Decimal("0.00000014")),
        ]
        assert await stores.accounts.find_key("h") == ApiKey("k", "old", 1)
    finally:
        await stores.close()
