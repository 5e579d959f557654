"""The worker's HTTP connection against a real server on the loopback interface."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from flux_endpoint.worker.connection import HttpConnection, NoAnswer, Patience, Reply

pytestmark = pytest.mark.anyio
PATIENCE = Patience(silence_s=30, total_s=60)


@contextlib.asynccontextmanager
async def server(handler):
    """Serves a handler for every path; yields the base URL."""
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_request_arrives_as_it_was_meant():
    seen = {}

    async def note(request):
        seen["line"] = (request.method, request.path, list(request.query.items()))
        seen["headers"] = (request.headers["Authorization"], request.headers["Content-Type"])
        seen["body"] = await request.read()
        return web.json_response({"fine": True})

    query = [("claimToken", "3"), ("warning", "a & b"), ("warning", "ü")]
    async with server(note) as url, HttpConnection(url + "/behind/", "the token") as connection:
        reply = await connection.request("POST", "/v2/x", query, b"\xff" * 2**21, "image/png", PATIENCE)
    assert (reply.status, reply.json()) == (200, {"fine": True})
    assert seen["line"] == ("POST", "/behind/v2/x", query)
    assert seen["headers"] == ("the token", "image/png")
    assert seen["body"] == b"\xff" * 2**21


@pytest.mark.parametrize("status", [204, 302, 401, 409, 503])
async def test_every_code_is_an_answer(status):
    async def refuse(request):
        return web.Response(status=status, text='{"error": "no"}', headers={"Location": "/elsewhere"})

    async with server(refuse) as url, HttpConnection(url, "t") as connection:
        reply = await connection.request("GET", "/", [], None, None, PATIENCE)
    assert reply.status == status
    assert status == 204 or reply.reason == "no"


async def test_a_gateway_that_hangs_up_gives_no_answer():
    async def hang_up(request):
        request.transport.abort()
        return web.Response()

    async with server(hang_up) as url, HttpConnection(url, "t") as connection:
        with pytest.raises(NoAnswer, match="Disconnected"):
            await connection.request("POST", "/", [], b"{}", "application/json", PATIENCE)
    async with HttpConnection(url, "t") as connection:
        with pytest.raises(NoAnswer, match=r"^Connection refused$"):
            await connection.request("GET", "/", [], None, None, PATIENCE)


async def test_a_gateway_that_falls_silent_gives_no_answer():
    async def sleep(request):
        await asyncio.Event().wait()

    async with server(sleep) as url, HttpConnection(url, "t") as connection:
        with pytest.raises(NoAnswer, match=r"^no answer in time$"):
            await connection.request("GET", "/", [], None, None, Patience(silence_s=0.05))


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b'{"error": "too late"}', "too late"), (b"<html>", "<html>"), (b"[]", "[]"), (b"", ""), (b"x" * 500, "x" * 200)],
)
def test_the_reason_of_a_refusal(body, reason):
    assert Reply(400, body).reason == reason


async def test_a_proxy_is_used_for_the_internet_only(monkeypatch):
    async def proxy(request):
        return web.Response(text=f"proxied {request.url.host}")

    async def direct(request):
        return web.Response(text="direct")

    async with server(proxy) as proxy_url, server(direct) as url:
        monkeypatch.setenv("http_proxy", proxy_url)
        async with HttpConnection(url, "t") as connection:
            assert (await connection.request("GET", "/", [], None, None, PATIENCE)).body == b"direct"
        async with HttpConnection("http://gateway.invalid", "t") as connection:
            reply = await connection.request("GET", "/", [], None, None, PATIENCE)
            assert reply.body == b"proxied gateway.invalid"


async def test_a_file_is_written_as_it_comes_and_a_refusal_is_told(tmp_path):
    async def answer(request):
        if request.query.get("sha256") != "abc":
            return web.json_response({"error": "no"}, status=404)
        return web.Response(body=b"\xff" * 2**20)

    file = tmp_path / "film"
    async with server(answer) as url, HttpConnection(url, "t") as connection:
        assert (await connection.save("/a", [("sha256", "abc")], file, PATIENCE)).status == 200
        assert file.read_bytes() == b"\xff" * 2**20
        reply = await connection.save("/a", [], file, PATIENCE)
    assert (reply.status, reply.reason) == (404, "no")


async def test_a_file_that_breaks_off_is_no_answer(tmp_path):
    async def break_off(request):
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        request.transport.close()
        return response

    async with server(break_off) as url, HttpConnection(url, "t") as connection:
        with pytest.raises(NoAnswer):
            await connection.save("/a", [], tmp_path / "film", PATIENCE)
