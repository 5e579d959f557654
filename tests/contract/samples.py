"""Records the contract tests are made of."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from flux_endpoint.api.dialects.runpod.jobs import new_job_id
from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.job import Claim, Job, JobStatus
from flux_endpoint.stores.connect import Stores

DEV = "black-forest-labs-flux-1-dev"
SCHNELL = "black-forest-labs-flux-1-schnell"
LEASE_S = 30.0
# Longer than any test may take.
NEVER_S = 3_600.0
COST_USD = Decimal("0.02097152")
OUTPUT = {"image": "key.png", "cost": 0.02097152, "extra": [{"a": None}, "ø"]}


def sample_job(clock: ManualClock, **changes: Any) -> Job:
    """A job as the gateway submits it; a millisecond later than the one before."""
    clock.advance(ms=1)
    fields: dict[str, Any] = {
        "id": new_job_id(sync=False),
        "endpoint_id": DEV,
        "status": JobStatus.IN_QUEUE,
        "input": {"prompt": "Żółć, 猫 and \U0001f98a", "guidance": 3.5, "seed": 2**32 - 1, "nested": {"a": [1, None]}},
        "key_id": "key-1",
        "cost_usd": COST_USD,
        "created_ms": clock.now_ms(),
        "queued_ms": clock.now_ms(),
    }
    return Job(**(fields | changes))


async def enqueue_some(stores: Stores, clock: ManualClock, count: int, **changes: Any) -> list[Job]:
    jobs = [sample_job(clock, **changes) for _ in range(count)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    return jobs


async def claim_one(stores: Stores, worker_id: str = "worker-a", endpoint_ids: Collection[str] = (DEV,)) -> Claim:
    (claim,) = await stores.claims.claim(worker_id, endpoint_ids, 1, LEASE_S)
    return claim


def sized(side: int, steps: int) -> dict[str, Any]:
    """The input of a job for a square picture."""
    return {"width": side, "height": side, "num_inference_steps": steps}


def sample_bucket(secret: str = "secret") -> Bucket:
    return Bucket("https://s3.example", "pictures", "their-id", secret, path="2026", field="s3Config")


async def until(stores: Stores, is_so: Callable[[float], bool]) -> None:
    """Wait until sleepers look as often as that; everybody is woken when it changes."""
    signals = stores.database.signals
    with signals.listen(timeout_s=20) as listener:
        while not is_so(signals.recheck_s):
            assert await listener.sleep()
