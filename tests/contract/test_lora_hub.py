"""The hub as the gateway asks it: the same addresses and answers as its own client's, over a true connection."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from huggingface_hub import HfApi, hf_hub_url

from flux_endpoint.core.lora import SentLora
from flux_endpoint.core.outbound import parse_outbound_allow
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.outbound.client import GuardedSender
from flux_endpoint.service.loras import FetchedLoras, Hub
from tests.unit.test_lora_shelf import PAIR, write

pytestmark = pytest.mark.anyio

COMMIT = "c" * 40
FILE = "styles/film-v2.safetensors"


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return write(tmp_path / "film.safetensors", PAIR).read_bytes()


@pytest.fixture
async def hub(data: bytes) -> AsyncIterator[str]:
    """A hub with one repository, whose files lie elsewhere, as on the true one."""

    async def tell(request: web.Request) -> web.Response:
        told = {"_id": "1", "id": "owner/film", "sha": COMMIT, "siblings": [{"rfilename": FILE}], "tags": []}
        return web.json_response(told)

    async def resolve(request: web.Request) -> web.Response:
        assert request.match_info["file"] == FILE
        raise web.HTTPFound("/storage")

    async def storage(request: web.Request) -> web.Response:
        return web.Response(body=data)

    application = web.Application()
    application.router.add_get("/api/models/owner/film/revision/main", tell)
    application.router.add_get(f"/owner/film/resolve/{COMMIT}/{{file:.*}}", resolve)
    application.router.add_get("/storage", storage)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_file_comes_from_where_the_hubs_own_client_would_get_it(hub: str, data: bytes, tmp_path: Path):
    info = await asyncio.to_thread(HfApi(endpoint=hub, token=False).model_info, "owner/film", revision="main")
    assert (info.sha, [one.rfilename for one in info.siblings]) == (COMMIT, [FILE])
    asked: list[str] = []

    class Sender(GuardedSender):
        async def save(self, url: str, *arguments: object) -> str:
            asked.append(url)
            return await super().save(url, *arguments)

    kept, rules = KeptLoras(tmp_path / "kept", 10**9), parse_outbound_allow("127.0.0.1")
    fetcher = FetchedLoras(kept, Sender(rules, "test"), rules, Hub(hub), claims=None)
    await fetcher.fetch(SentLora("loras[0].path", "owner/film"))
    pin = kept.pin("owner/film")
    assert (pin.sha256, pin.revision) == (hashlib.sha256(data).hexdigest(), COMMIT)
    assert await asyncio.to_thread(kept.file(pin.sha256).read_bytes) == data
    assert asked == [hf_hub_url("owner/film", FILE, revision=info.sha, endpoint=hub)]
