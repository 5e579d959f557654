"""Claims a second of this project's queue and of procrastinate, on one PostgreSQL, in turn."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal

import procrastinate

from benchmarks.fleet_parts import Postgres, in_turn, seconds_since
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.stores.connect import open_stores

ENDPOINT = "bench"
CLAIMERS = 8
LEASE_S = 60.0


def waiting_job(clock: SystemClock, number: int) -> Job:
    now_ms = clock.now_ms()
    given = {"prompt": "a lake", "seed": number}
    return Job(
        id=f"{number}-{secrets.token_hex(8)}",
        endpoint_id=ENDPOINT,
        status=JobStatus.IN_QUEUE,
        input=given,
        key_id="key",
        cost_usd=Decimal(0),
        created_ms=now_ms,
        queued_ms=now_ms,
    )


async def drain(claim: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until some claimers, one job at a time, have taken all there is."""

    async def claimer() -> None:
        while await claim():
            pass

    began_s = time.monotonic()
    await asyncio.gather(*(claimer() for _ in range(CLAIMERS)))
    return seconds_since(began_s)


async def ours(url: str, jobs: int) -> float:
    stores = await open_stores(url, clock := SystemClock(), connections=CLAIMERS + 1)
    try:
        for first in range(0, jobs, CLAIMERS):
            numbers = range(first, min(jobs, first + CLAIMERS))
            await asyncio.gather(*(stores.jobs.enqueue(waiting_job(clock, number)) for number in numbers))

        async def claim() -> bool:
            return bool(await stores.claims.claim("worker", [ENDPOINT], 1, LEASE_S))

        return jobs / await drain(claim)
    finally:
        await stores.close()


async def peers(url: str, jobs: int) -> float:
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=CLAIMERS, max_size=CLAIMERS)
    async with procrastinate.App(connector=connector).open_async() as app:
        await app.schema_manager.apply_schema_async()
        task = app.configure_task("draw", allow_unknown=True)
        await task.batch_defer_async(*({"prompt": "a lake", "seed": number} for number in range(jobs)))
        worker_id = await app.job_manager.register_worker()

        async def claim() -> bool:
            return await app.job_manager.fetch_job(None, worker_id) is not None

        return jobs / await drain(claim)


async def claims_per_s(server: Postgres, rounds: int, jobs: int) -> dict[str, list[float]]:
    """Claims a second in each round, by who claims; each commits one job at a time, from 8 places at once."""
    claimers = {"this build": ours, "procrastinate": peers}
    found: dict[str, list[float]] = {name: [] for name in claimers}
    for number in range(rounds):
        for name in in_turn(list(claimers), number):
            found[name].append(round(await claimers[name](server.new_database(), jobs), 1))
    return found
