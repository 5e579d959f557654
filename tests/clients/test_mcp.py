"""Agents by the official clients of their protocol, Python and JavaScript, against a running server."""

import asyncio
import base64
import json
import os
import subprocess
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from flux_endpoint.core.image_formats import JPEG, format_of
from tests.clients.test_node import NODE
from tests.servers import DEADLINE_S, Server

LAKE = {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 2, "seed": 7}
SLOW = {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 50, "seed": 8, "wait_seconds": 0}


def key_of(server: Server) -> str:
    return (server.data_dir / "api-key").read_text().strip()


def node(server: Server, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({"tool": tool, "arguments": arguments}) + "\n" for tool, arguments in calls)
    done = subprocess.run(
        ["node", "mcp.mjs", f"{server.url}/mcp"],
        **{"cwd": NODE, "env": os.environ | {"RUNPOD_API_KEY": key_of(server)}, "input": lines},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_python_draws_hears_of_steps_and_is_told_what_is_wrong(server: Server) -> None:
    notices: list[tuple[float, float | None]] = []

    async def note(step: float, total: float | None, message: str | None) -> None:
        notices.append((step, total))

    async def scenario() -> None:
        headers = {"Authorization": f"Bearer {key_of(server)}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http,
            Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client,
        ):
            first = await client.call_tool("generate", LAKE)
            image, link, _ = first.content
            assert format_of(base64.b64decode(image.data)) is JPEG
            assert (await http.get(str(link.uri))).content == base64.b64decode(image.data)
            again = await client.call_tool("generate", LAKE)
            assert again.structured_content == first.structured_content
            wrong = await client.call_tool("generate", LAKE | {"width": 100})
            assert (wrong.is_error, "width" in wrong.content[0].text) == (True, True)
            queued = (await client.call_tool("generate", SLOW)).structured_content
            done = await client.call_tool("status", {"job_id": queued["job_id"]}, progress_callback=note)
            assert done.structured_content["status"] == "COMPLETED"

    asyncio.run(scenario())
    assert notices == sorted(notices)
    assert len(server.charges()) == 2


def test_javascript_draws_and_stops(slow_server: Server) -> None:
    first, again, queued, cancelled, priced = node(
        slow_server,
        ("generate", LAKE | {"seed": 17, "num_inference_steps": 1}),
        ("generate", LAKE | {"seed": 17, "num_inference_steps": 1}),
        ("generate", SLOW | {"seed": 18}),
        ("cancel", {"job_id": "$.job_id"}),
        ("estimate", LAKE),
    )
    assert first["answer"]["status"] == "COMPLETED"
    assert again["answer"] == first["answer"]
    assert queued["answer"]["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert cancelled["answer"]["status"] == "CANCELLED"
    assert priced["answer"]["cost_usd"] == first["answer"]["cost_usd"]
