"""Pictures as tools of agents: by the protocol's own client, and what a repeated call must not do."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from flux_endpoint.api.app import create_app
from flux_endpoint.core.account import KeyLimits
from flux_endpoint.core.image_formats import JPEG
from tests.api.conftest import API_KEY, DEV, FRONT, PUBLIC_URL, SCHNELL, Gateway, HandWorker, picture_in

pytestmark = pytest.mark.anyio

LAKE = {"prompt": "a lake", "width": 512, "height": 512}


@asynccontextmanager
async def agent(gateway: Gateway, secret: str = API_KEY) -> AsyncIterator[Client]:
    """The SDK's own client, connected."""
    transport = httpx2.ASGITransport(create_app(gateway.services, FRONT))
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=headers) as http,
        Client(streamable_http_client(f"{PUBLIC_URL}/mcp", http_client=http)) as client,
    ):
        yield client


async def drawn(gateway: Gateway, client: Client, arguments: dict[str, Any], **options: Any) -> Any:
    """What `generate` answers, with a worker that draws."""
    worker = HandWorker(gateway.client)
    asking = asyncio.create_task(client.call_tool("generate", arguments, **options))
    while not asking.done():
        job = await worker.take()
        if job is not None:
            await worker.finish(job)
    return await asking


async def waiting(gateway: Gateway) -> int:
    return (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"]


async def test_the_tools_say_what_they_take(gateway: Gateway) -> None:
    async with agent(gateway) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["generate", "estimate", "status", "cancel"]
    asked = tools["generate"].input_schema
    assert asked["required"] == ["prompt"]
    assert asked["properties"]["model"]["enum"] == ["flux-dev", "flux-schnell"]
    assert asked["properties"]["width"] | {"description": ""} == {
        "type": "integer",
        "minimum": 256,
        "maximum": 1536,
        "default": 1024,
        "description": "",
    }


async def test_a_picture_comes_inline_and_as_a_link_that_works(gateway: Gateway) -> None:
    async with agent(gateway) as client:
        result = await drawn(gateway, client, LAKE | {"seed": 7, "guidence": 3})
    told = result.structured_content
    assert (result.is_error, told["status"], told["seed"], told["cost_usd"]) == (False, "COMPLETED", 7, 0.00524288)
    assert told["warnings"] == ["guidence: did you mean guidance?"]
    image, link, text = result.content
    assert (image.type, image.mime_type, base64.b64decode(image.data)) == ("image", "image/jpeg", picture_in(JPEG))
    assert (link.type, str(link.uri)) == ("resource_link", told["image_url"])
    assert told["image_url"] in text.text
    assert (await gateway.get(told["image_url"], headers={"Authorization": ""})).content == picture_in(JPEG)


async def test_a_repeated_call_gets_the_same_picture_and_is_not_paid(gateway: Gateway) -> None:
    key, secret = await gateway.services.accounts.create(
        "agent", limits=KeyLimits(usd_per_month=Decimal("0.006"), requests_per_minute=1)
    )
    async with agent(gateway, secret) as client:
        first = await drawn(gateway, client, LAKE)
        # In another order, with nulls, and by another connection.
        again = await client.call_tool("generate", {"seed": None, **dict(reversed(LAKE.items()))})
        assert again.structured_content == first.structured_content
    async with agent(gateway, secret) as client:
        assert (await client.call_tool("generate", LAKE)).structured_content == first.structured_content
        other = await client.call_tool("generate", LAKE | {"seed": 2})
        assert other.is_error
        assert "at most 1 jobs" in other.content[0].text
        gateway.clock.advance(s=61)
        other = await client.call_tool("generate", LAKE | {"seed": 2})
        assert other.is_error
        assert "over budget" in other.content[0].text
    spent = await gateway.services.accounts.spent_this_month()
    assert list(spent) == [key.id]


async def test_calls_at_once_with_the_same_arguments_share_one_job(gateway: Gateway) -> None:
    async with agent(gateway) as client:
        results = await asyncio.gather(*(drawn(gateway, client, LAKE) for _ in range(3)))
    assert len({result.structured_content["job_id"] for result in results}) == 1
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["completed"] == 1


async def test_what_failed_is_drawn_anew_and_what_has_expired_too(gateway: Gateway) -> None:
    worker = HandWorker(gateway.client)
    async with agent(gateway) as client:
        asking = asyncio.create_task(client.call_tool("generate", LAKE))
        job = await worker.take_next()
        await worker.done(job, {"error": "no memory left"})
        failed = await asking
        assert failed.is_error
        assert "no memory left" in failed.content[0].text
        first = await drawn(gateway, client, LAKE)
        assert first.structured_content["job_id"] != failed.structured_content["job_id"]
        gateway.clock.advance(s=3_600)
        second = await drawn(gateway, client, LAKE)
        assert second.structured_content["job_id"] not in (
            first.structured_content["job_id"],
            failed.structured_content["job_id"],
        )
        # From then on the newest counts.
        assert (await client.call_tool("generate", LAKE)).structured_content == second.structured_content


async def test_progress_grows_and_a_long_picture_is_asked_for_again(gateway: Gateway) -> None:
    worker = HandWorker(gateway.client)
    notices: list[tuple[float, float | None]] = []

    async def note(step: float, total: float | None, message: str | None) -> None:
        notices.append((step, total))

    async with agent(gateway) as client:
        early = await client.call_tool("generate", LAKE | {"wait_seconds": 0})
        assert "call status with job_id" in early.content[0].text
        told = early.structured_content
        assert told["status"] == "IN_QUEUE"
        job = await worker.take()
        assert job is not None
        await worker.send(job, {"step": 14, "total": 28, "eta_ms": 10})
        running = await client.call_tool("status", {"job_id": told["job_id"], "wait_seconds": 0})
        assert running.structured_content["status"] == "IN_PROGRESS"
        assert "step 14 of 28" in running.content[0].text
        asking = asyncio.create_task(client.call_tool("status", {"job_id": told["job_id"]}, progress_callback=note))
        await worker.finish(job)
        done = await asking
        assert done.content[0].type == "image"
        # How long a call waits is no part of what it asks for.
        assert (await client.call_tool("generate", LAKE)).structured_content == done.structured_content
    # This client gets them with the result: `tests/clients` has one that sees them come.
    assert notices in ([], [(14, 28)])


async def test_a_job_is_cancelled_by_its_tool(gateway: Gateway) -> None:
    soon = LAKE | {"wait_seconds": 0}
    async with agent(gateway) as client:
        told = (await client.call_tool("generate", soon)).structured_content
        assert await waiting(gateway) == 1
        cancelled = await client.call_tool("cancel", {"job_id": told["job_id"]})
        assert (cancelled.is_error, cancelled.structured_content["status"]) == (False, "CANCELLED")
        assert await waiting(gateway) == 0
        # Asked for again it is another job: the agent has changed its mind.
        again = (await client.call_tool("generate", soon)).structured_content
        assert again["job_id"] != told["job_id"]


async def test_an_estimate_costs_nothing(gateway: Gateway) -> None:
    async with agent(gateway) as client:
        told = (await client.call_tool("estimate", LAKE | {"model": "flux-schnell"})).structured_content
    assert (told["cost_usd"], told["jobs_ahead"]) == (0.00062915, 0)
    assert await waiting(gateway) == 0


@pytest.mark.parametrize(
    ("tool", "arguments", "problem"),
    [
        ("generate", {}, "prompt is required"),
        ("generate", LAKE | {"width": 100}, "width must be between 256 and 1536"),
        ("generate", LAKE | {"model": "sdxl"}, "the model 'sdxl' is not served here"),
        ("generate", LAKE | {"model": 1}, "model must be a string"),
        ("generate", LAKE | {"wait_seconds": 51}, "wait_seconds must be between 0 and 50"),
        ("status", {}, "job_id is required"),
        ("status", {"job_id": "flux-dev_nothing"}, "There is no job"),
        ("cancel", {"job_id": "x"}, "there is no job x"),
        ("paint", {}, "there is no tool 'paint'"),
    ],
)
async def test_what_is_wrong_is_told_in_words(gateway: Gateway, tool: str, arguments: Any, problem: str) -> None:
    async with agent(gateway) as client:
        result = await client.session.call_tool(tool, arguments)
    assert result.is_error
    assert problem.lower() in result.content[0].text.lower()


async def test_only_a_key_gets_in_and_only_to_what_it_opens(gateway: Gateway) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    reply = await gateway.post("/mcp", ask, headers={"Authorization": ""})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, -32000)
    assert (await gateway.get("/mcp")).status_code == 405
    _, reader = await gateway.services.accounts.create("reader", limits=KeyLimits(is_read_only=True))
    async with agent(gateway, reader) as client:
        refused = await client.call_tool("generate", LAKE)
        assert refused.is_error
        assert "read only" in refused.content[0].text
    # What came by another dialect is none of an agent's.
    job_id = await gateway.submit()
    async with agent(gateway) as client:
        assert (await client.session.call_tool("cancel", {"job_id": job_id})).is_error


async def test_a_call_without_a_model_means_the_first_that_the_key_opens(gateway: Gateway) -> None:
    limits = KeyLimits(endpoint_ids=frozenset({SCHNELL.removeprefix("/v2/")}))
    _, guest = await gateway.services.accounts.create("guest", limits=limits)
    async with agent(gateway, guest) as client:
        told = (await client.call_tool("generate", {"prompt": "a lake", "wait_seconds": 0})).structured_content
    assert told["job_id"].startswith("flux-schnell_")
