#!/usr/bin/env bash
# aiohttp 3.14.5 as a client, and a server or proxy that takes a request and closes the connection without an answer.
#
# Expected: ServerDisconnectedError after one request, as httpx and requests have it: the caller decides whether it may be
# repeated. No argument of ClientSession speaks of retries; packages such as aiohttp-retry exist for them.
# Seen (CPython 3.11): GET, HEAD, PUT and DELETE are sent once more at once, on a new connection. Not only where a connection
# that was kept alive proves dead: also after the first request of a new session, with force_close=True, and after the
# server has read all of a PUT's body. The hook on_request_start is called once, and nothing is logged, so that a
# request in the server's log twice has no cause in the client's. POST is sent once. No public argument turns it off.
#
# Where a GET takes something, as Runpod's protocol takes a job (GET job-take, in its SDK by aiohttp), a lost answer takes
# two. Our gateway gives the first job back when its taker asks again with none in progress (decision 0024); our
# own calls that change something for good, reports and webhooks, are POST.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aiohttp==3.14.5 httpx==0.28.1
"$folder/venv/bin/python" - <<'PY'
import asyncio
from types import SimpleNamespace

import aiohttp
import httpx

heard: list[str] = []


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads one request and its body, and goes."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    body = await reader.readexactly(int(length or 0))
    heard.append(f"{head.split()[0].upper()} {len(body)}")
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(closes, "127.0.0.1", 0)
    url = "http://127.0.0.1:{}/job-take/worker".format(server.sockets[0].getsockname()[1])
    started: list[str] = []

    async def on_start(_: object, __: SimpleNamespace, about: aiohttp.TraceRequestStartParams) -> None:
        started.append(about.method)

    hooks = aiohttp.TraceConfig()
    hooks.on_request_start.append(on_start)
    seen = {}
    for method, body in (("GET", None), ("PUT", b"pixels"), ("DELETE", None), ("POST", b"pixels")):
        heard.clear(), started.clear()
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, trace_configs=[hooks]) as session:
            try:
                await session.request(method, url, data=body)
            except aiohttp.ServerDisconnectedError:
                seen[method] = len(heard)
        print(f"aiohttp: {method}: the server heard {heard}, the hook {len(started)} request")
        assert len(started) == 1
    heard.clear()
    async with httpx.AsyncClient() as client:
        try:
            await client.get(url)
        except httpx.RemoteProtocolError:
            print(f"httpx:   GET: the server heard {heard}")
            seen["httpx"] = len(heard)
    if seen != {"GET": 2, "PUT": 2, "DELETE": 2, "POST": 1, "httpx": 1}:
        raise SystemExit("changed: aiohttp sends a request once")
    print("as described")


asyncio.run(main())
PY
