"""Every link in every answer of every dialect starts with the origin that the caller used, and can be followed."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from flux_endpoint.api.app import create_app
from flux_endpoint.core.front import Front
from tests.api.conftest import API_KEY, DEV, FRONT, PNG_BYTES, PUBLIC_URL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pictures.lan", "X-Forwarded-Prefix": "/flux"}
# How a call comes, and what its links must start with.
WAYS = [
    (FRONT, "10.1.1.1", {}, PUBLIC_URL),
    (FRONT, "10.1.1.1", {"Host": "localhost:8000"}, "http://localhost:8000"),
    (FRONT, "10.1.1.1", FORWARDED, PUBLIC_URL),
    (FRONT, "127.0.0.1", FORWARDED, "https://pictures.lan/flux"),
    (Front(public_url="https://a.example"), "127.0.0.1", FORWARDED, "https://a.example"),
]
LAKE: dict[str, Any] = {"prompt": "a lake", "seed": 1, "output_format": "png"}
MODEL = "/v1/models/black-forest-labs/flux-dev/predictions"
# Per dialect: what makes a picture, whether its answer waits for that, and what is asked afterwards: a path, or where
# in the first answer a link to it stands.
DIALECTS: dict[str, tuple[str, dict[str, Any], bool, list[str]]] = {
    "runpod sync": (f"{DEV}/runsync", {"input": LAKE}, True, []),
    "runpod": (f"{DEV}/run", {"input": LAKE}, False, [f"{DEV}/status/{{id}}", f"{DEV}/events/{{id}}"]),
    "openai": ("/v1/images/generations", LAKE, True, []),
    "bfl": ("/v1/flux-dev", LAKE, False, ["{polling_url}"]),
    "replicate": (MODEL, {"input": LAKE}, False, ["{urls[get]}", "{urls[stream]}", "/v1/predictions"]),
    "fal sync": ("/fal/run/fal-ai/flux/dev", LAKE, True, []),
    "fal": ("/fal/queue/fal-ai/flux/dev", LAKE, False, ["{status_url}", "{response_url}"]),
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_links_start_with_the_origin_that_was_asked(gateway: Gateway, dialect: str) -> None:
    for front, address, headers, origin in WAYS:
        app = create_app(gateway.services, front)
        transport = httpx.ASGITransport(app, client=(address, 1))
        asked = {"Authorization": f"Bearer {API_KEY}"} | headers
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=asked) as client:
            texts = await answers(client, gateway, dialect, origin)
            found = {link for text in texts for link in re.findall(r"https?://[^\s\"\\]+", text)}
            assert found, texts
            assert {link for link in found if not link.startswith(f"{origin}/")} == set()
            for picture in {link for link in found if "/images/" in link}:
                # Without a key, as most clients fetch it.
                reply = await client.get(picture.removeprefix(origin), headers={"Authorization": ""})
                assert reply.content == PNG_BYTES


async def answers(client: httpx.AsyncClient, gateway: Gateway, dialect: str, origin: str) -> list[str]:
    """What a dialect answers on the way to a picture."""
    path, body, is_held, later = DIALECTS[dialect]
    worker = HandWorker(gateway.client)
    asking = asyncio.create_task(client.post(path, json=body))
    made = None if is_held else await asking
    while (job := await worker.take()) is None:
        assert not asking.done() or made is not None, (await asking).text
    await worker.finish(job)
    await gateway.settle()
    first = made or await asking
    assert first.is_success, first.text
    replies = [first]
    for where in later:
        replies.append(await client.get(where.format(**first.json()).removeprefix(origin)))
        assert replies[-1].is_success, replies[-1].text
    return [reply.text for reply in replies]
