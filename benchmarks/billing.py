"""What a long ledger costs: bills, budgets and the sums that both are read from, with a million charges in SQLite.

The ledger is filled directly: 100 keys, two endpoints, three years, spread evenly, which leaves the sums nearly as
many rows as there are charges: the worst case. Then each question is asked through the store or the service, as the
gateway does, and so is the one thing that pays for it: the completion of a job. CPU time is the process's, all threads:
on a shared machine it is what to trust.

    python -m benchmarks.billing --charges 1000000
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.machine import describe_machine
from flux_endpoint.api.dialects.runpod.jobs import new_job_id
from flux_endpoint.core.account import ApiKey, KeyLimits
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.job import Completed, Job, JobStatus
from flux_endpoint.core.periods import Period, from_ms
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.service.billing import Billing
from flux_endpoint.stores.connect import Stores, open_stores

RESULTS = Path(__file__).parent / "results" / "billing.json"
YEARS_MS = 3 * 365 * 86_400_000
KEYS = 100


async def fill(stores: Stores, charges: int, now_ms: int) -> None:
    draw = random.Random(1)
    endpoints = list(CATALOG)
    entry = text(
        "INSERT INTO ledger (job_id, endpoint_id, key_id, amount_units, created_ms, execution_ms, work) "
        "VALUES (:job, :endpoint, :key, 2097152, :time_ms, 4000, 28.0)"
    )
    rows = (
        {
            "job": f"job-{number}",
            "endpoint": draw.choice(endpoints),
            "key": f"key-{draw.randrange(KEYS)}",
            "time_ms": now_ms - YEARS_MS + number * YEARS_MS // charges,
        }
        for number in range(charges)
    )
    while batch := list(itertools.islice(rows, 10_000)):
        await stores.database.write(lambda transaction, batch=batch: transaction.connection.execute(entry, batch))
    # As the migration does for a ledger from before.
    sums = text(
        "INSERT INTO charges_by_hour SELECT created_ms - created_ms % 3600000, key_id, endpoint_id, COUNT(*), "
        "SUM(amount_units) FROM ledger GROUP BY 1, 2, 3"
    )
    started_s = time.perf_counter()
    await stores.database.write(lambda transaction: transaction.connection.execute(sums))
    print(f"sums of an existing ledger, as at an upgrade: {time.perf_counter() - started_s:.1f} s")


async def measure(question: Callable[[], Awaitable[object]], repeats: int) -> tuple[float, float]:
    """Median wall-clock and mean CPU milliseconds."""
    await question()
    times_ms = []
    cpu_s = time.process_time()
    for _ in range(repeats):
        started_s = time.perf_counter()
        await question()
        times_ms.append((time.perf_counter() - started_s) * 1_000)
    return statistics.median(times_ms), (time.process_time() - cpu_s) / repeats * 1_000


def questions(stores: Stores, clock: ManualClock) -> dict[str, tuple[Callable[[], Awaitable[object]], int]]:
    billing, accounts = Billing(stores.accounts, clock), Accounts(stores.accounts, clock)
    everybody, visitor = ApiKey("a", "", 0), ApiKey("key-7", "", 0, limits=KeyLimits(endpoint_ids=frozenset({"x"})))
    all_time = from_ms(clock.now_ms() - YEARS_MS - 86_400_000)
    month = from_ms(clock.now_ms()) - timedelta(days=30)

    def bill(key: ApiKey, period: Period, *since: object) -> Callable[[], Awaitable[object]]:
        return lambda: billing.bill(key, billing.range_of(period, *since))

    async def job(key_id: str, *, complete: bool) -> None:
        now_ms = clock.now_ms()
        job = await stores.jobs.enqueue(
            Job(
                id=new_job_id(sync=False),
                endpoint_id=FLUX_DEV.endpoint_id,
                status=JobStatus.IN_QUEUE,
                input={"prompt": "a lake"},
                key_id=key_id,
                cost_usd=Decimal("0.02"),
                created_ms=now_ms,
                queued_ms=now_ms,
            )
        )
        if complete:
            (claim,) = await stores.claims.claim("worker", [job.endpoint_id], 1, 30)
            await stores.claims.finish(job.id, "worker", claim.token, Completed({}))
        else:
            await stores.jobs.cancel(job.endpoint_id, job.id)

    return {
        "bill, 30 days by day, all keys": (bill(everybody, Period.DAY), 20),
        "bill, 30 days by hour, all keys": (bill(everybody, Period.HOUR), 20),
        "bill, 3 years by day, all keys": (bill(everybody, Period.DAY, all_time), 5),
        "bill, 3 years by month, all keys": (bill(everybody, Period.MONTH, all_time), 5),
        "bill, 3 years by day, one key": (bill(visitor, Period.DAY, all_time), 20),
        "usage, 30 days by day, all keys": (lambda: billing.usage(billing.range_of(Period.DAY, month)), 5),
        "keys list: what each spent this month": (accounts.spent_this_month, 10),
        "queue and cancel, key without a budget": (lambda: job("key-8", complete=False), 200),
        "queue and cancel, key with a budget": (lambda: job("key-7", complete=False), 200),
        "queue, claim, complete and charge": (lambda: job("key-8", complete=True), 200),
    }


async def run(charges: int) -> None:
    clock = ManualClock(1_785_000_000_000)
    with tempfile.TemporaryDirectory() as folder:
        stores = await open_stores(f"sqlite:///{folder}/ledger.db", clock)
        for number in range(KEYS):
            limits = KeyLimits(usd_per_month=Decimal(1_000_000)) if number == 7 else KeyLimits()
            await stores.accounts.add_key(ApiKey(f"key-{number}", "", 0, limits=limits), f"hash-{number}")
        await fill(stores, charges, clock.now_ms())
        table = Table("question", "median ms", "CPU ms", title=f"{charges:,} charges")
        result: dict[str, object] = {"machine": describe_machine(("sqlalchemy",)), "charges": charges}
        for name, (question, repeats) in questions(stores, clock).items():
            wall_ms, cpu_ms = await measure(question, repeats)
            table.add_row(name, f"{wall_ms:.2f}", f"{cpu_ms:.2f}")
            result[name] = {"median_ms": wall_ms, "cpu_ms": cpu_ms}
        await stores.close()
    Console().print(table)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charges", type=int, default=1_000_000)
    asyncio.run(run(parser.parse_args().charges))
