"""A database in which a server has worked for a week, so that its figures look like something."""

import asyncio
import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from flux_endpoint.api.dialects.runpod.jobs import new_job_id
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import ManualClock, SystemClock
from flux_endpoint.core.job import Completed, Failed, Job, JobStatus
from flux_endpoint.core.periods import MS_PER_DAY, MS_PER_HOUR
from flux_endpoint.stores.connect import Stores, open_stores
from tests.servers import DEV, SCHNELL

_JOBS: Final = 700
_LEASE_S: Final = 600.0
_KEYS: Final = (("7c01ab52e9d3", "website", 6), ("b94e1f0d77a2", "nightly batch", 3), ("0d52c6aa18fe", "try-outs", 1))
_ERRORS: Final = ("image generation failed: CUDA out of memory", "Invalid parameter: width must be divisible by 64")
# Seconds and dollars of a picture, as on a GPU.
_ENDPOINTS: Final = ((DEV, 6.4, Decimal("0.02097152")), (SCHNELL, 0.9, Decimal("0.00251658")))


def write_past(database: Path) -> None:
    """Fill a new database with a week up to now; the same at every call but for the time."""
    database.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as thread:
        # In a thread of its own, because this one's event loop is Playwright's.
        thread.submit(lambda: asyncio.run(_write(database))).result()


async def _write(database: Path) -> None:
    draw, now_ms = random.Random(5), SystemClock().now_ms()
    clock = ManualClock(now_ms - 7 * MS_PER_DAY)
    stores = await open_stores(f"sqlite:///{database}", clock)
    for key_id, name, _ in _KEYS:
        await stores.accounts.add_key(ApiKey(key_id, name, clock.now_ms()), f"hash of {name}")
    for number in range(9):
        ready_ms = now_ms - draw.randrange(20 * MS_PER_HOUR)
        await stores.activity.note_cold_start(
            f"pod-{number}", [DEV, SCHNELL], round(draw.gauss(21_000, 2_500)), ready_ms
        )
    for made_ms in sorted(_time(draw, now_ms) for _ in range(_JOBS)):
        clock.advance(ms=max(0, made_ms - clock.now_ms()))
        await _run(stores, clock, draw)
    await stores.close()


def _time(draw: random.Random, now_ms: int) -> int:
    """More by day than by night, more of late, and some minutes ago at the latest."""
    while True:
        ago_ms = min(draw.expovariate(1 / (1.5 * MS_PER_DAY)) + 120_000, 7 * MS_PER_DAY)
        hour = (now_ms - ago_ms) / MS_PER_HOUR % 24
        if draw.random() < 0.55 - 0.45 * math.cos((hour - 3) * math.pi / 12):
            return round(now_ms - ago_ms)


async def _run(stores: Stores, clock: ManualClock, draw: random.Random) -> None:
    (key_id, *_), (endpoint_id, seconds, cost_usd) = (
        draw.choices(_KEYS, [share for *_, share in _KEYS])[0],
        draw.choices(_ENDPOINTS, (2, 1))[0],
    )
    now_ms, chance = clock.now_ms(), draw.random()
    job = Job(new_job_id(sync=False), endpoint_id, JobStatus.IN_QUEUE, {}, key_id, cost_usd, now_ms, now_ms)
    if chance < 0.02:
        refused = {"status": JobStatus.FAILED, "error": _ERRORS[1], "cost_usd": Decimal(0), "finished_ms": now_ms}
        await stores.jobs.enqueue(replace(job, **refused))
        return
    await stores.jobs.enqueue(job)
    clock.advance(ms=round(draw.expovariate(1 / 900)))
    if chance < 0.06:
        await stores.jobs.cancel(endpoint_id, job.id)
        return
    if chance < 0.09:
        await stores.claims.claim("lost", [endpoint_id], 1, _LEASE_S)
        await stores.claims.release("lost", counts_as_retry=True, max_retries=1)
    (claim,) = await stores.claims.claim("pod-1", [endpoint_id], 1, _LEASE_S)
    clock.advance(ms=round(1_000 * seconds * draw.lognormvariate(0, 0.12)))
    outcome = Failed(_ERRORS[0]) if chance > 0.985 else Completed({})
    await stores.claims.finish(job.id, "pod-1", claim.token, outcome)
