"""What `GET /v2/usage` costs on a server with 100,000 jobs, in SQLite: all of them in the range, and a tenth.

The jobs are written directly: two endpoints, spread evenly over 30 days, one in ten not completed. CPU time is the
process's, all threads: on a shared machine it is what to trust.

    python -m benchmarks.activity --jobs 100000
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.billing import measure
from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.service.activity import ActivityRange
from flux_endpoint.stores.connect import Stores, open_stores

RESULTS = Path(__file__).parent / "results" / "activity.json"
MONTH_MS = 30 * 86_400_000
INSERT = text(
    "INSERT INTO jobs (id, endpoint_id, status, input, key_id, cost_units, created_ms, queued_ms, started_ms, "
    "finished_ms, claim_token, retries, execution_timeout_ms, low_priority, expires_ms) "
    "VALUES (:id, :endpoint, :status, '{}', 'key', 2097152, :created, :created, :started, :finished, 1, 0, 600000, "
    "0, 0)"
)


async def fill(stores: Stores, jobs: int, now_ms: int) -> None:
    draw = random.Random(1)

    def row(number: int) -> dict[str, object]:
        created_ms = now_ms - MONTH_MS + number * MONTH_MS // jobs
        started_ms = created_ms + draw.randrange(2_000)
        return {
            "id": f"job-{number}",
            "endpoint": draw.choice(list(CATALOG)),
            "status": "COMPLETED" if draw.random() < 0.9 else "FAILED",
            "created": created_ms,
            "started": started_ms,
            "finished": min(now_ms, started_ms + round(draw.lognormvariate(8, 0.5))),
        }

    rows = map(row, range(jobs))
    while batch := list(itertools.islice(rows, 10_000)):
        await stores.database.write(lambda transaction, batch=batch: transaction.connection.execute(INSERT, batch))


async def run(jobs: int) -> None:
    clock = ManualClock(1_785_000_000_000)
    with tempfile.TemporaryDirectory() as folder:
        stores = await open_stores(f"sqlite:///{folder}/jobs.db", clock)
        await fill(stores, jobs, clock.now_ms())
        table = Table("range", "median ms", "CPU ms", title=f"{jobs:,} jobs")
        result: dict[str, object] = {"machine": describe_machine(("sqlalchemy",)), "jobs": jobs}
        for wanted in ActivityRange:
            end_ms = clock.now_ms() + 1
            start_ms = end_ms - wanted.buckets * wanted.bucket_ms
            wall_ms, cpu_ms = await measure(
                lambda start_ms=start_ms, end_ms=end_ms, wanted=wanted: stores.activity.activity(
                    list(CATALOG), start_ms, end_ms, wanted.bucket_ms
                ),
                10,
            )
            table.add_row(wanted, f"{wall_ms:.2f}", f"{cpu_ms:.2f}")
            result[wanted] = {"median_ms": wall_ms, "cpu_ms": cpu_ms}
        await stores.close()
    Console().print(table)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    asyncio.run(run(parser.parse_args().jobs))
