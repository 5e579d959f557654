"""Short ways to ask: as another client, for a job that a worker then has, about jobs of an endpoint of one's own."""

import asyncio
from typing import Any

from flux_endpoint.core.account import KeyLimits
from flux_endpoint.service.workforce import Workforce
from tests.api.conftest import ECHO, Gateway, HandWorker


async def headers_of(gateway: Gateway, **limits: Any) -> dict[str, str]:
    """Those of a new API key with these limits."""
    _, secret = await gateway.services.accounts.create("visitor", limits=KeyLimits(**limits))
    return {"Authorization": f"Bearer {secret}"}


async def taken(gateway: Gateway, worker: HandWorker, **fields: Any) -> dict[str, Any]:
    """A new job for a picture, as its worker gets it."""
    await gateway.submit(**fields)
    job = await worker.take()
    assert job is not None
    return job


async def submit(gateway: Gateway, endpoint: str = ECHO, **envelope: Any) -> str:
    body = {"input": {"prompt": "a lake"}} | envelope
    reply = await gateway.post(f"{endpoint}/run", body)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def status(gateway: Gateway, job_id: str, endpoint: str = ECHO) -> dict[str, Any]:
    return (await gateway.get(f"{endpoint}/status/{job_id}")).json()


async def workers(gateway: Gateway, endpoint: str = ECHO) -> dict[str, int]:
    counts = (await gateway.get(f"{endpoint}/health")).json()["workers"]
    return {state: count for state, count in counts.items() if count}


async def until_held(workforce: Workforce, worker_id: str) -> None:
    """Wait until a call of a worker is held."""
    async with asyncio.timeout(30):
        while True:
            if (worker := workforce._registry.get(worker_id)) and (worker.takes or worker.stops):
                return
            await asyncio.sleep(0)
