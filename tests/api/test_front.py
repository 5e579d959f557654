"""How a request came decides where the links of its answer lead, and how its path is read."""

import dataclasses
import gzip
import json

import httpx
import pytest

from flux_endpoint.api.app import create_app
from flux_endpoint.core.front import Front
from tests.api.conftest import API_KEY, DEV, FRONT, PUBLIC_URL, WORKER_TOKEN, Gateway, HandWorker

pytestmark = pytest.mark.anyio
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pictures.lan", "X-Forwarded-Prefix": "/flux/"}
ORIGIN = "https://app.example.org"


def client_of(gateway: Gateway, front: Front, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(gateway.services, front), client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers={"Authorization": API_KEY})


async def finished(gateway: Gateway, worker: HandWorker, **options: object) -> str:
    job_id = (await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}} | options)).json()["id"]
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    return job_id


@pytest.mark.parametrize(
    ("front", "address", "headers", "expected"),
    [
        (FRONT, "10.1.1.1", {}, PUBLIC_URL),
        (FRONT, "10.1.1.1", {"Host": "pictures.lan:8000"}, "http://pictures.lan:8000"),
        (FRONT, "10.1.1.1", {"Host": "[fd00::1]:8000"}, "http://[fd00::1]:8000"),
        (FRONT, "10.1.1.1", {"Host": "flux_backend"}, "http://flux_backend"),
        (FRONT, "10.1.1.1", {"Host": ""}, "http://127.0.0.1:8000"),
        (FRONT, "10.1.1.1", FORWARDED, PUBLIC_URL),
        (FRONT, "127.0.0.1", FORWARDED, "https://pictures.lan/flux"),
        (FRONT, "::ffff:127.0.0.1", FORWARDED, "https://pictures.lan/flux"),
        (FRONT, "127.0.0.1", {"X-Forwarded-Proto": "https, http"}, PUBLIC_URL.replace("http:", "https:")),
        (Front(public_url="https://a.example/flux"), "127.0.0.1", FORWARDED, "https://a.example/flux"),
    ],
)
async def test_links_start_with_what_the_client_asked(gateway, worker, front, address, headers, expected):
    job_id = await finished(gateway, worker)
    async with client_of(gateway, front, address) as client:
        job = (await client.get(f"{DEV}/status/{job_id}", headers=headers)).json()
        assert job["output"]["image_url"].startswith(f"{expected}/images/")
        assert job["output"]["result"] == job["output"]["image_url"]
        events = (await client.get(f"{DEV}/events/{job_id}", headers=headers)).text
        assert f'"{expected}/images/' in events
        assert (await client.get("/openapi.json", headers=headers)).json()["servers"] == [{"url": expected}]


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "x:y", "evil.example#", "user@host", "[::1", 'x"', "a,b", "ä", "a:123456"]
)
async def test_a_host_that_is_none_is_refused(gateway, host):
    request = gateway.client.build_request("GET", "/v2/endpoints", headers=[("Host", host.encode("latin-1"))])
    reply = await gateway.client.send(request)
    assert (reply.status_code, reply.json()) == (400, {"error": "Invalid request: the header Host is malformed"})


async def test_two_hosts_are_refused(gateway):
    request = gateway.client.build_request("GET", "/v2/endpoints", headers=[("Host", "a"), ("Host", "b")])
    assert (await gateway.client.send(request)).status_code == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Host", "a b"), ("X-Forwarded-Prefix", "//evil.example")],
)
async def test_what_a_trusted_proxy_forwards_is_checked_too(gateway, name, value):
    async with client_of(gateway, FRONT) as client:
        reply = await client.get("/v2/endpoints", headers={name: value})
        assert reply.status_code == 400
        assert name in reply.json()["error"]


async def test_a_webhook_has_the_link_by_which_its_job_came(gateway, worker):
    headers = {"Host": "pictures.lan:9000"}
    body = {"input": {"prompt": "a lake"}, "webhook": "https://hook.example/"}
    await gateway.post(f"{DEV}/run", body, headers=headers)
    batch = (await gateway.post(f"{DEV}/batch", [body], headers=headers)).json()["id"]
    await gateway.post(f"{DEV}/batch/{batch}/finalize", headers=headers)
    for _ in range(2):
        job = await worker.take()
        assert job is not None
        await worker.finish(job)
        await gateway.send_due()
    assert len(gateway.sender.sent) == 2
    for sent in gateway.sender.sent:
        assert sent.json["output"]["image_url"].startswith("http://pictures.lan:9000/images/")
        assert "origin" not in sent.json


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/{DEV[3:]}/health/",
        f"/v2/{DEV[3:]}/health",
        f"//v2{DEV[3:]}//health",
        f"{DEV}/health///",
        f"/v2//{DEV[4:]}/health",
    ],
)
async def test_slashes_too_many_count_as_one(gateway, path):
    reply = await gateway.client.send(gateway.client.build_request("GET", f"{PUBLIC_URL}{path}"))
    assert reply.status_code == 200, reply.text
    assert "workers" in reply.json()


@pytest.mark.parametrize("path", ["/v2/endpoints/", "//docs", "/usage/", "//"])
async def test_no_path_is_answered_with_a_redirect(gateway, path):
    reply = await gateway.client.send(gateway.client.build_request("GET", f"{PUBLIC_URL}{path}"))
    assert reply.status_code == 200


async def test_a_prefix_that_the_proxy_left_is_taken_away(gateway):
    async with client_of(gateway, Front(public_url="https://a.example/flux")) as client:
        assert (await client.get("/flux/v2/endpoints")).status_code == 200
        assert (await client.get("/v2/endpoints")).status_code == 200
        assert (await client.get("/fluxes/v2/endpoints")).status_code == 404


async def test_pages_of_other_origins_may_call_nothing_unless_told(gateway):
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    reply = await gateway.client.options(f"{DEV}/run", headers=ask)
    assert reply.status_code == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_pages_of_a_named_origin_may_call_what_is_for_clients(gateway):
    async with client_of(gateway, dataclasses.replace(FRONT, cors_origins=[ORIGIN])) as client:
        ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        ask["Access-Control-Request-Headers"] = "authorization,content-type,idempotency-key"
        told = await client.options(f"{DEV}/run", headers=ask)
        assert told.status_code == 200
        assert told.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in told.headers["Access-Control-Allow-Methods"]
        refused = await client.post(f"{DEV}/run", content=b"{", headers={"Origin": ORIGIN, "Authorization": "no"})
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
        other = await client.options(f"{DEV}/run", headers=ask | {"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
        for path in ("job-take/w", "job-done/w/j", "ping/w"):
            worker = await client.get(f"{DEV}/{path}", headers={"Origin": ORIGIN, "Authorization": WORKER_TOKEN})
            assert "Access-Control-Allow-Origin" not in worker.headers
            assert (await client.options(f"{DEV}/{path}", headers=ask)).status_code == 405


BODY = json.dumps({"input": {"prompt": "a lake", "seed": 7}}).encode()


@pytest.mark.parametrize(
    "packed", [gzip.compress(BODY), gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])], ids=["one member", "two"]
)
@pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip"])
async def test_a_body_may_come_as_gzip(gateway, worker, packed, name):
    reply = await gateway.client.post(f"{DEV}/run", content=packed, headers={"Content-Encoding": name})
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    assert job["input"]["seed"] == 7


async def test_a_body_that_fills_its_part_to_the_last_byte_is_unpacked_whole(gateway):
    for length in range(2**18 - 3, 2**18 + 4):
        body = json.dumps({"input": {"prompt": "a lake", "x": ""}}).encode()
        body = body[:-3] + b"x" * (length - len(body)) + body[-3:]
        reply = await gateway.client.post(
            f"{DEV}/run", content=gzip.compress(body), headers={"Content-Encoding": "gzip"}
        )
        assert reply.status_code == 200, (length, reply.text)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (b"", "gzip"),
        (BODY, "gzip"),
        (gzip.compress(BODY)[:-9], "gzip"),
        (gzip.compress(BODY) + b"more", "gzip"),
        # A thousand times smaller than what it holds.
        (gzip.compress(b" " * (10 * 2**20 + 1)), "10MiB"),
        (gzip.compress(b" " * 2**28), "10MiB"),
    ],
    ids=["nothing", "plain", "cut", "more", "bit too long", "bomb"],
)
async def test_what_unpacks_to_nothing_good_is_refused(gateway, packed, text):
    reply = await gateway.client.post(f"{DEV}/run", content=packed, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 400
    assert text in reply.json()["error"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_other_encodings_are_not_understood(gateway, encoding):
    reply = await gateway.client.post(f"{DEV}/run", content=BODY, headers={"Content-Encoding": encoding})
    assert reply.status_code == 415
    assert reply.headers["Accept-Encoding"] == "gzip"
    assert encoding in reply.json()["error"]
