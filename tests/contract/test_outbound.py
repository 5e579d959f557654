"""The way out to places that clients name: real sockets, real bytes, and the addresses it never touches."""

import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flux_endpoint.core.errors import OutboundFailed, OutboundRefused
from flux_endpoint.core.outbound import PUBLIC_ONLY, parse_outbound_allow
from flux_endpoint.outbound.client import GuardedSender
from flux_endpoint.outbound.late import LateSender
from flux_endpoint.outbound.protocol import Answer, Sender
from tests.certificates import server_certificate

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


class Receiver:
    """A server that answers every request with the same bytes and keeps what it got."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[bytes] = []


@asynccontextmanager
async def receiving(answer: bytes, *, hold_s: float = 0) -> AsyncIterator[Receiver]:
    served: set[asyncio.Task] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            await reply(reader, writer)
        finally:
            writer.close()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        receiver.requests.append(head + await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(hold_s)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver = Receiver(server.sockets[0].getsockname()[1])
    async with server:
        yield receiver
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


def names(**addresses: str | list[str]) -> Callable:
    """A name server that knows these names (with `_` for the dot) and counts the questions."""
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[tuple]:
        asked.append(host)
        found = addresses.get(host.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if isinstance(found, list) and len(asked) > 1:
            # Another answer for everybody who asks again.
            found = found[1:]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ([found] if isinstance(found, str) else found)
        ]

    look_up.asked = asked
    return look_up


def sender(allow: str = "", **addresses: str | list[str]) -> GuardedSender:
    return GuardedSender(parse_outbound_allow(allow), "flux-endpoint/test", names(**addresses))


async def send(way_out: Sender, url: str, body: bytes = b"{}", timeout_s: float = 20) -> Answer:
    return await way_out.send("POST", url, {"X-One": "1"}, body, timeout_s)


async def test_what_is_sent_arrives_as_it_is():
    async with receiving(OK) as receiver:
        url = f"http://user:p%40ss@a.example:{receiver.port}/hook%2Fx?b=%41+c"
        got = await send(sender("a.example", a_example="127.0.0.1"), url, b'{"a": 1}')
        assert got == Answer(200, b"done", {"content-length": "4"})
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook%2Fx?b=%41+c HTTP/1.1\r\n")
    assert f"Host: a.example:{receiver.port}".encode() in head
    assert b"Authorization: Basic dXNlcjpwQHNz" in head
    assert b"X-One: 1" in head
    assert b"User-Agent: flux-endpoint/test" in head
    assert body == b'{"a": 1}'


async def test_the_sender_of_a_gateway_is_made_when_it_is_first_used():
    way_out = LateSender(parse_outbound_allow("127.0.0.1"), "flux-endpoint/late")
    async with receiving(OK) as receiver:
        for _ in range(2):
            assert (await send(way_out, f"http://127.0.0.1:{receiver.port}/")).start == b"done"
    assert all(b"User-Agent: flux-endpoint/late" in request for request in receiver.requests)
    with pytest.raises(OutboundRefused, match="is a loopback address"):
        await send(LateSender(parse_outbound_allow(""), "x"), f"http://127.0.0.1:{receiver.port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "private.example", "[::ffff:127.0.0.1]", "127.1", "0x7f.1"])
async def test_an_address_of_the_own_network_is_never_called(host):
    async with receiving(OK) as receiver:
        with pytest.raises(OutboundRefused, match=r"is a (loopback|private) address"):
            await send(
                sender(
                    localhost="127.0.0.1", private_example="10.0.0.1", **{"0x7f_1": "127.0.0.1", "127_1": "127.0.0.1"}
                ),
                f"http://{host}:{receiver.port}/",
            )
    assert receiver.requests == []


async def test_a_name_with_one_bad_address_is_refused_as_a_whole():
    with pytest.raises(OutboundRefused, match=r"10\.0\.0\.1 is a private address"):
        await send(sender(a_example=["93.184.216.34", "10.0.0.1"]), "http://a.example/")


async def test_a_name_is_looked_up_once_and_its_answer_used():
    # The second answer would be the metadata service.
    way_out = GuardedSender(
        parse_outbound_allow("127.0.0.1"), "x", look_up := names(a_example=["127.0.0.1", "169.254.169.254"])
    )
    async with receiving(OK) as receiver:
        with pytest.raises(OutboundRefused, match=r"169\.254\.169\.254"):
            await send(way_out, f"http://a.example:{receiver.port}/")
        assert len(look_up.asked) == 1
    assert receiver.requests == []


async def test_the_last_gate_is_at_the_socket(monkeypatch):
    """Whatever lies between, no socket is opened for an address that may not be called."""
    monkeypatch.setattr("flux_endpoint.outbound.client.literal_address", lambda host: None)
    async with receiving(OK) as receiver:
        with pytest.raises(OutboundRefused, match=r"127\.0\.0\.1 is a loopback address"):
            await send(sender(), f"http://127.0.0.1:{receiver.port}/")
    assert receiver.requests == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirects_are_answers_and_lead_nowhere(status):
    async with receiving(OK) as secret:
        location = f"http://127.0.0.1:{secret.port}/"
        answer = f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        async with receiving(answer) as receiver:
            got = await send(sender("a.example", a_example="127.0.0.1"), f"http://a.example:{receiver.port}/")
    assert got == Answer(int(status[:3]), b"", {"location": location, "content-length": "0"})
    assert secret.requests == []


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    async with receiving(OK) as receiver, receiving(OK) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await send(sender("127.0.0.1"), f"http://127.0.0.1:{receiver.port}/")
    assert proxy.requests == []


async def test_a_long_answer_is_not_read_and_a_slow_one_not_waited_for():
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 9_000
    async with receiving(long, hold_s=30) as receiver, asyncio.timeout(15):
        answer = await send(sender("127.0.0.1"), f"http://127.0.0.1:{receiver.port}/")
    assert answer.status == 200
    assert 0 < len(answer.start) <= 2_048
    silent = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    async with receiving(silent, hold_s=30) as receiver, asyncio.timeout(15):
        answer = await send(sender("127.0.0.1"), f"http://127.0.0.1:{receiver.port}/")
    assert (answer.status, answer.start) == (200, b"")


async def test_a_receiver_that_does_not_answer_is_given_up():
    async with receiving(b"", hold_s=30) as receiver:
        with pytest.raises(OutboundFailed, match=r"no answer within 0\.2 s"):
            await send(sender("127.0.0.1"), f"http://127.0.0.1:{receiver.port}/?token=geheim", timeout_s=0.2)


async def test_a_name_server_that_does_not_answer_is_given_up():
    def look_up(host: str, port: int) -> list[tuple]:
        asleep.wait(30)
        return []

    asleep = threading.Event()
    try:
        with pytest.raises(OutboundFailed, match="no answer within"):
            await send(GuardedSender(PUBLIC_ONLY, "x", look_up), "http://a.example/", timeout_s=0.1)
    finally:
        asleep.set()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(b"", "the connection was closed before the answer"), (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP")],
)
async def test_an_answer_that_is_none_is_told_without_the_url(answer, problem):
    async with receiving(answer) as receiver:
        with pytest.raises(OutboundFailed) as caught:
            await send(sender("127.0.0.1"), f"http://127.0.0.1:{receiver.port}/?token=geheim")
    assert str(caught.value) == problem


async def test_who_is_not_there_is_told_without_the_url(unused_port):
    for url, problem in (
        (f"http://127.0.0.1:{unused_port}/?token=geheim", "127.0.0.1 cannot be reached: Connection refused"),
        ("http://nobody.example/?token=geheim", "the name nobody.example was not found"),
    ):
        with pytest.raises(OutboundFailed) as caught:
            await send(sender("127.0.0.1"), url)
        assert str(caught.value).startswith(problem)
        assert "geheim" not in str(caught.value)


def redirect_to(place: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_a_file_is_fetched_also_over_a_redirect():
    async with receiving(OK) as there, receiving(redirect_to(f"http://b.example:{there.port}/fox")) as here:
        way_out = sender("a.example, b.example", a_example="127.0.0.1", b_example="127.0.0.1")
        assert await way_out.fetch(f"http://a.example:{here.port}/", 4, 20) == b"done"
    assert there.requests[0].startswith(b"GET /fox HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in there.requests[0].lower()


async def test_each_redirect_is_judged_anew():
    async with receiving(OK) as there:
        for place in (f"http://127.0.0.1:{there.port}/", f"http://b.example:{there.port}/"):
            async with receiving(redirect_to(place)) as here:
                way_out = sender("a.example", a_example="127.0.0.1", b_example="127.0.0.1")
                with pytest.raises(OutboundRefused, match="is a loopback address"):
                    await way_out.fetch(f"http://a.example:{here.port}/", 4, 20)
    assert there.requests == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the answer is HTTP 404"),
        (OK.replace(b"4", b"2097153", 1) + bytes(2**21), "the file has more than 1 MiB"),
        (redirect_to("/again"), "there are more than 3 redirects"),
        (redirect_to("file:///etc/passwd"), "a redirect leads to no http or https URL"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "the answer is HTTP 302"),
    ],
)
async def test_what_cannot_be_fetched_is_told(answer: bytes, problem: str):
    async with receiving(answer) as receiver:
        with pytest.raises(OutboundFailed, match=problem):
            await sender("127.0.0.1").fetch(f"http://127.0.0.1:{receiver.port}/", 2**20, 20)


async def test_a_fetch_ends_in_time_however_slowly_the_file_comes():
    async with receiving(OK[:-1], hold_s=30) as receiver:
        with pytest.raises(OutboundFailed, match=r"no answer within 0\.2 s"):
            await sender("127.0.0.1").fetch(f"http://127.0.0.1:{receiver.port}/", 2**20, 0.2)


async def test_a_file_is_saved_with_its_hash(tmp_path: Path):
    data = bytes(range(256)) * 2**13
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    async with receiving(answer) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        way_out, file = LateSender(parse_outbound_allow("127.0.0.1"), "x"), tmp_path / "film"
        assert await way_out.save(url, file, len(data), 20) == hashlib.sha256(data).hexdigest()
        assert file.read_bytes() == data
        with pytest.raises(OutboundFailed, match="the file has more than 2 MB"):
            await way_out.save(url, file, len(data) - 1, 20)


async def test_a_secret_is_told_to_nobody_but_whom_it_is_for(tmp_path: Path):
    async with receiving(OK) as there, receiving(redirect_to(f"http://b.example:{there.port}/film")) as here:
        way_out = sender("a.example, b.example", a_example="127.0.0.1", b_example="127.0.0.1")
        secret = {"Authorization": "Bearer geheim"}
        await way_out.save(f"http://a.example:{here.port}/", tmp_path / "film", 4, 20, secret)
    assert b"Bearer geheim" in here.requests[0]
    assert b"geheim" not in there.requests[0]


@asynccontextmanager
async def receiving_tls(answer: bytes, folder: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A server with TLS for the name localhost: its port, and who believes its certificate."""
    certificate, key = server_certificate(folder, "localhost")

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(reply, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], ssl.create_default_context(cafile=str(certificate))


async def test_a_file_is_saved_over_tls_and_no_redirect_leads_away_from_it(tmp_path: Path):
    async def saved(answer: bytes, *, is_believed: bool = True) -> bytes:
        async with receiving_tls(answer, tmp_path) as (port, tls):
            rules, look_up = parse_outbound_allow("localhost, 127.0.0.1"), names(localhost="127.0.0.1")
            way_out = GuardedSender(rules, "x", look_up, tls if is_believed else None)
            await way_out.save(f"https://localhost:{port}/film", tmp_path / "film", 4, 20)
            return (tmp_path / "film").read_bytes()

    assert await saved(OK) == b"done"
    with pytest.raises(OutboundFailed, match="the certificate of localhost is not valid"):
        await saved(OK, is_believed=False)
    async with receiving(OK) as plain:
        with pytest.raises(OutboundFailed, match="a redirect leads away from https"):
            await saved(redirect_to(f"http://127.0.0.1:{plain.port}/film"))
    assert plain.requests == []
