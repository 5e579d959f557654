"""What a worker may see of the job that it holds."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from flux_endpoint.core.errors import LeaseLost
from flux_endpoint.core.job import JobStatus
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.stores.jobs.protocol import ClaimStore


async def fields_of_held(
    claims: ClaimStore, endpoint_ids: Collection[str], worker_id: str, job_id: str, token: int | None
) -> Mapping[str, Any]:
    """The input of a job that a worker holds.

    Raises:
        LeaseLost: the job is not held by this worker and token.
        UnknownJob: no such job.
    """
    job = await claims.get(job_id, endpoint_ids)
    if job.status is not JobStatus.IN_PROGRESS or (job.worker_id, job.claim_token) != (worker_id, token):
        raise LeaseLost(f"Job {job_id} is not held by this worker")
    # A prompt may be as long as a request.
    return await asyncio.to_thread(lambda: job.fields) if isinstance(job.input, RawJson) else job.input
