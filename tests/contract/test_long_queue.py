"""What it costs to look at a long queue, counted in rows and not in time."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from flux_endpoint.core.affinity import Affinity
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.connect import Stores
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

OTHER = "custom"
ENDPOINTS = [DEV, SCHNELL, OTHER]
WAITING = 3_000
# Of the table and its indexes, on PostgreSQL.
ROWS = (
    "SELECT sum(pg_stat_get_xact_tuples_returned(c.oid)) FROM pg_class AS c "
    "WHERE c.oid = 'jobs'::regclass OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'jobs'::regclass)"
)
# SQLite counts its steps by so many, and takes about ten for a row.
STEPS = 10
Work = Callable[[], Awaitable[object]]
Cost = Callable[[Work], Awaitable[int]]


async def fill(stores: Stores, clock: ManualClock, low_priority: int = 0) -> None:
    """A long queue on three endpoints, most of it on the first; behind it much that has ended."""
    fields = {"width": 64, "height": 64, "num_inference_steps": 4}
    template = sample_job(clock, endpoint_id="template", input=fields)
    await stores.jobs.enqueue(template)
    columns = "input, key_id, cost_units, queued_ms, claim_token, retries"
    statement = text(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WAITING}) "
        f"INSERT INTO jobs (id, endpoint_id, status, low_priority, created_ms, {columns}) "
        f"SELECT s.status || '-' || n.i, CASE n.i % 10 WHEN 0 THEN '{SCHNELL}' WHEN 1 THEN '{OTHER}' ELSE '{DEV}' END, "
        f"s.status, {low_priority}, created_ms + n.i, {columns} "
        f"FROM jobs, n, (SELECT 'COMPLETED' AS status UNION ALL SELECT 'IN_QUEUE') AS s WHERE id = '{template.id}'"
    )
    await stores.database.write(lambda transaction: transaction.connection.execute(statement))


@pytest.fixture
def cost(stores: Stores, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Runs some work, and says how many rows the database has read for it."""
    database, write = stores.database, stores.database.write
    read_rows: list[int] = []

    async def counted(work, **_):
        def run(transaction):
            before = transaction.connection.scalar(text(ROWS))
            result = work(transaction)
            read_rows.append(transaction.connection.scalar(text(ROWS)) - before)
            return result

        return await write(run)

    async def on_postgres(work: Work) -> int:
        read_rows.clear()
        with monkeypatch.context() as patch:
            patch.setattr(database, "write", counted)
            patch.setattr(database, "read", lambda work, **_: counted(lambda transaction: work(transaction.connection)))
            await work()
        return int(sum(read_rows))

    async def on_sqlite(work: Work) -> int:
        steps: list[int] = []
        await database.read(lambda connection: connection.raw.set_progress_handler(lambda: steps.append(STEPS), STEPS))
        await work()
        await database.read(lambda connection: connection.raw.set_progress_handler(None, 0))
        return sum(steps) // 10

    return on_sqlite if database_url.startswith("sqlite") else on_postgres


async def test_a_worker_of_several_endpoints_reads_no_more_than_the_front_of_their_queues(stores, clock, cost):
    await fill(stores, clock)
    held = Affinity(((DEV, "a" * 64),))
    claims = stores.claims
    costs = {}
    for statistics in ("none", "fresh"):
        for endpoints in (ENDPOINTS[:2], ENDPOINTS):
            works = {
                "wait": lambda of=endpoints: claims.wait_for_jobs(of, 0),
                "wait for a short one": lambda of=endpoints: claims.wait_for_jobs(of, 0, 2**40),
                "claim": lambda of=endpoints: claims.claim("w", of, 1, LEASE_S),
                "claim two": lambda of=endpoints: claims.claim("w", of, 2, LEASE_S),
                "claim a short one": lambda of=endpoints: claims.claim("w", of, 1, LEASE_S, 2**40),
                "claim by LoRAs": lambda of=endpoints: claims.claim("w", of, 1, LEASE_S, None, held),
            }
            for name, work in works.items():
                costs[statistics, len(endpoints), name] = await cost(work)
        await stores.database.write(lambda transaction: transaction.connection.execute(text("ANALYZE jobs")))
    costs["whoever decides how many workers there are"] = await cost(lambda: stores.fleets.work(ENDPOINTS, 0, 100))
    assert max(costs.values()) < WAITING / 4, costs
    left = [(await stores.jobs.counts(endpoint)).in_queue for endpoint in ENDPOINTS]
    assert WAITING - sum(left) == 2 * 2 * (1 + 2 + 1 + 1)


async def test_jobs_of_low_priority_are_not_read_by_who_leaves_them(stores, clock, cost):
    await fill(stores, clock, low_priority=1)
    job = sample_job(clock, input={"width": 64, "height": 64, "num_inference_steps": 4})
    claims, costs = stores.claims, {}
    for statistics in ("none", "fresh"):
        for endpoints in (ENDPOINTS[:1], ENDPOINTS):
            works = {
                "wait": lambda of=endpoints: claims.wait_for_jobs(of, 0, 2**40),
                "claim": lambda of=endpoints: claims.claim("w", of, 1, LEASE_S, 2**40),
            }
            for name, work in works.items():
                costs[statistics, len(endpoints), name] = await cost(work)
        await stores.database.write(lambda transaction: transaction.connection.execute(text("ANALYZE jobs")))
    costs["whoever decides how many workers there are"] = await cost(lambda: stores.fleets.work(ENDPOINTS, 0, 1_000))
    assert max(costs.values()) < WAITING / 10, costs
    await stores.jobs.enqueue(job)
    assert (await stores.fleets.work(ENDPOINTS, 0, 1_000)).waiting == 1
    assert [claim.job.id for claim in await claims.claim("w", ENDPOINTS, 1, LEASE_S, 2**40)] == [job.id]


async def test_what_waits_on_several_endpoints_is_claimed_in_the_order_in_which_it_came(stores, clock):
    jobs = [sample_job(clock, endpoint_id=ENDPOINTS[number * number % 3]) for number in range(20)]
    same_ms = jobs[-1].created_ms
    jobs += [sample_job(clock, endpoint_id=ENDPOINTS[number % 2], created_ms=same_ms) for number in range(20)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    claimed = []
    for number in range(len(jobs) // 2):
        claimed += await stores.claims.claim(f"w{number}", ENDPOINTS, 2, LEASE_S)
    assert [claim.job.id for claim in claimed] == [job.id for job in jobs]
    assert {claim.job.status for claim in claimed} == {JobStatus.IN_PROGRESS}
