"""A gateway inside the test's own event loop, with a clock the test moves and a worker it plays by hand."""

import asyncio
import hashlib
import json
from asyncio import to_thread
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux_endpoint.api.app import create_app
from flux_endpoint.api.services import Services
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.clock import ManualClock, SystemClock
from flux_endpoint.core.endpoint import EndpointSpec, FluxEndpoint
from flux_endpoint.core.errors import FluxEndpointError, OutboundFailed
from flux_endpoint.core.front import Front
from flux_endpoint.core.image_formats import IMAGE_FORMATS, PNG, ImageFormat
from flux_endpoint.outbound.protocol import NO_HEADERS, Answer
from flux_endpoint.service.custom import CustomEndpoint
from flux_endpoint.service.janitor import Janitor
from flux_endpoint.service.job_views import JobViews
from flux_endpoint.service.uploads import Uploads
from flux_endpoint.service.webhooks import Deliverer
from flux_endpoint.settings import Settings
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.wiring.services import build_services
from tests.api.golden_files import GoldenFiles
from tests.databases import copy_empty_database
from tests.outbox import Outbox

DEV = "/v2/black-forest-labs-flux-1-dev"
SCHNELL = "/v2/black-forest-labs-flux-1-schnell"
# An endpoint of one's own beside the FLUX ones.
ECHO = "/v2/echo"
ENDPOINTS: dict[str, EndpointSpec] = {spec.endpoint_id: FluxEndpoint(spec) for spec in (FLUX_DEV, FLUX_SCHNELL)}
ENDPOINTS["echo"] = CustomEndpoint("echo", "Echo", usd_per_job=Decimal("0.001"))
API_KEY = "fxe_test-key"
WORKER_TOKEN = "fxw_test-token"
# What clients of these tests ask, and therefore what links start with.
PUBLIC_URL = "http://pictures.example:8000"
FRONT = Front(trusted_proxies=[ip_network("127.0.0.1")])
# Longer than any test may take.
DEADLINE_S = 20


def picture_in(image_format: ImageFormat) -> bytes:
    """What begins like a file of a format, and goes on anyhow: the gateway never decodes pictures."""
    start = bytearray(16)
    for offset, magic in image_format.magic:
        start[offset : offset + len(magic)] = magic
    return bytes(start) + b"picture" * 100


PNG_BYTES = picture_in(PNG)

FORM = "application/x-www-form-urlencoded"


@dataclass
class Gateway:
    client: httpx.AsyncClient
    services: Services
    clock: ManualClock
    janitor: Janitor
    stores: Stores
    deliverer: Deliverer
    outbox: Outbox
    sender: "FakeSender"
    uploads: Uploads

    async def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        return await self.client.post(path, json=body, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def settle(self) -> None:
        """Wait for what goes on after the answer to a worker."""
        async with asyncio.timeout(DEADLINE_S):
            while self.uploads.under_way:  # noqa: ASYNC110 (a count, in which nobody else sleeps)
                await asyncio.sleep(0.001)

    async def send_due(self) -> None:
        """Send the webhooks that are due."""
        await self.outbox.send_due()

    async def submit(self, endpoint: str = DEV, **fields: Any) -> str:
        """Queue a valid job; returns its id."""
        reply = await self.post(f"{endpoint}/run", {"input": {"prompt": "a lake"} | fields})
        assert reply.status_code == 200, reply.text
        return reply.json()["id"]


@dataclass(frozen=True)
class Sent:
    """One request that went out to a place a client named."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FakeSender:
    """Implements `Sender` without a network: keeps what was sent and answers what the test wants."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: list[int | Answer | FluxEndpointError] = []
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.headers: dict[str, Mapping[str, str]] = {}

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        self.sent.append(Sent(method, url, headers, body))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, FluxEndpointError):
            raise answer
        if isinstance(answer, Answer):
            return answer
        return Answer(answer, b"<Error><Code>AccessDenied</Code></Error>" if answer == 403 else b"")

    async def fetch(
        self, url: str, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> bytes:
        self.fetched.append(url)
        self.headers[url] = headers
        if url not in self.files:
            raise OutboundFailed("the answer is HTTP 404")
        return self.files[url]

    async def save(
        self, url: str, file: Path, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> str:
        data = await self.fetch(url, limit_bytes, timeout_s, headers)
        await to_thread(file.write_bytes, data)
        return hashlib.sha256(data).hexdigest()


async def no_sleep(_: float) -> None:
    """A pause that a test does not wait for."""


class HandWorker:
    """A worker that does each step of the protocol when the test says so."""

    def __init__(self, client: httpx.AsyncClient, worker_id: str = "worker-1", endpoint: str = DEV) -> None:
        self.client = client
        self.id = worker_id
        self.endpoint = endpoint
        self.headers = {"Authorization": WORKER_TOKEN}

    async def take(self, **said: str) -> dict[str, Any] | None:
        query = {"gpu": "cpu", "claim": "1", **said}
        reply = await self.client.get(f"{self.endpoint}/job-take/{self.id}", params=query, headers=self.headers)
        assert reply.status_code in (200, 204), reply.text
        return reply.json() if reply.status_code == 200 else None

    async def take_next(self) -> dict[str, Any]:
        """The next job, however long it takes to come."""
        async with asyncio.timeout(DEADLINE_S):
            while (job := await self.take()) is None:
                pass
        return job

    async def deliver(
        self, job: dict[str, Any], data: bytes = PNG_BYTES, *warnings: str, **said: str
    ) -> httpx.Response:
        """End a job with its picture, as our own worker does."""
        told = [*(("warning", warning) for warning in warnings), *said.items()]
        return await self.client.post(
            f"{self.endpoint}/job-done/{self.id}/{job['id']}",
            params=[("claimToken", job["claimToken"]), ("isStream", "false"), *told],
            content=data,
            headers=self.headers | {"Content-Type": "image/png"},
        )

    async def done(self, job: dict[str, Any], result: dict[str, Any]) -> httpx.Response:
        return await self.client.post(
            f"{self.endpoint}/job-done/{self.id}/{job['id']}?claimToken={job['claimToken']}&isStream=false",
            json=result,
            headers=self.headers,
        )

    async def send(self, job: dict[str, Any], chunk: Any) -> httpx.Response:
        return await self.client.post(
            f"{self.endpoint}/job-stream/{self.id}/{job['id']}?claimToken={job['claimToken']}&isStream=false",
            json={"output": chunk},
            headers=self.headers,
        )

    async def finish(self, job: dict[str, Any], *warnings: str) -> None:
        """Hand in a picture in the format that was asked for."""
        data = picture_in(IMAGE_FORMATS[job["input"]["image_format"]])
        reply = await self.deliver(job, data, *warnings)
        assert reply.status_code == 200, reply.text


class ThirdPartyWorker:
    """Speaks like Runpod's SDK: no claim token, results as JSON under a form's content type."""

    def __init__(self, gateway: Gateway, worker_id: str = "pod-1", endpoint: str = ECHO, token: str = WORKER_TOKEN):
        self.client = gateway.client
        self.id = worker_id
        self.endpoint = endpoint
        self.headers = {"Authorization": token}

    async def get(self, operation: str, query: str = "") -> httpx.Response:
        url = f"{self.endpoint}/{operation}/{self.id}?gpu=unknown{query}"
        return await self.client.get(url, headers=self.headers)

    async def take(self) -> dict[str, Any]:
        reply = await self.get("job-take", "&job_in_progress=0")
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def post(self, operation: str, job_id: str, content: bytes, *, is_stream: bool = False) -> httpx.Response:
        return await self.client.post(
            f"{self.endpoint}/{operation}/{self.id}/{job_id}?gpu=unknown&isStream={str(is_stream).lower()}",
            content=content,
            headers=self.headers | {"Content-Type": FORM, "charset": "utf-8", "X-Request-ID": job_id},
        )

    async def done(self, job_id: str, result: object, *, is_stream: bool = False) -> httpx.Response:
        return await self.post("job-done", job_id, json.dumps(result).encode(), is_stream=is_stream)


@asynccontextmanager
async def open_gateway(
    folder: Path,
    sender: "FakeSender",
    endpoints: Mapping[str, EndpointSpec] = ENDPOINTS,
    hold_s: float = 0.05,
    **changes: Any,
) -> AsyncIterator[Gateway]:
    """A gateway with its database and pictures in a folder; `hold_s` is how long workers wait there for a job."""
    # Starts at the real time, because the age of a picture is that of its file.
    clock = ManualClock(SystemClock().now_ms())
    settings = Settings(data_dir=folder, **changes)
    if not (folder / "jobs.db").exists():
        await copy_empty_database(folder / "jobs.db")
    stores = await open_stores(f"sqlite:///{folder / 'jobs.db'}", clock)
    outbox = Outbox(stores.webhooks)
    stores = replace(stores, webhooks=outbox)
    built = build_services(settings, stores, endpoints, FRONT, sender, "gateway-1", WORKER_TOKEN, sleep=no_sleep)
    outbox.deliverer = built.deliverer
    quick_views = JobViews(stores.jobs, built.routes.workforce, clock, queue_period_s=0.02, silence_s=0.1)
    services = replace(built.routes, job_views=quick_views, hold_s=hold_s, hot_loop_s=0)
    await services.accounts.create("test", API_KEY)
    transport = httpx.ASGITransport(create_app(services, FRONT))
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=headers) as client:
        yield Gateway(client, services, clock, built.janitor, stores, built.deliverer, outbox, sender, built.uploads)
    await stores.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, FakeSender()) as opened:
        yield opened


@pytest.fixture
def worker(gateway: Gateway) -> HandWorker:
    return HandWorker(gateway.client)


@pytest.fixture
def third_party(gateway: Gateway) -> ThirdPartyWorker:
    return ThirdPartyWorker(gateway)


@pytest.fixture
def noon(gateway: Gateway) -> Gateway:
    """The gateway at a known time, so that answers with times in them can be told beforehand."""
    noon_ms = round(datetime(2031, 3, 1, 12, tzinfo=UTC).timestamp() * 1_000)
    gateway.clock.advance(ms=noon_ms - gateway.clock.now_ms())
    return gateway


@pytest.fixture
def golden() -> GoldenFiles:
    return GoldenFiles()
