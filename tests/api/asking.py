"""Short ways to ask about jobs of an endpoint of one's own."""

from typing import Any

from tests.api.conftest import ECHO, Gateway


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
