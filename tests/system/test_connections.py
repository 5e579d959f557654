"""What one client does to its connections is no other client's business."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.servers import DEADLINE_S, DEV, Server, Servers, wait_until

RUN = f"/v2/{DEV}/run"


# Together on one of the parallel processes, so that most of them share a server.
pytestmark = pytest.mark.xdist_group("connections")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    try:
        # None of these tests wants a picture.
        yield servers.start(workers=0)
    finally:
        servers.close()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)


def answer_to(server: Server, *pieces: bytes) -> bytes:
    """Everything that comes back until the server closes; sending stops when it refuses to take more."""
    with connect(server) as client:
        for piece in pieces:
            client.sendall(piece)
        answer = b""
        while data := client.recv(65_536):
            answer += data
        return answer


def test_silent_connections_keep_nobody_out(servers):
    server = servers.start(open_files=256)
    with ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(connect(server))
        for _ in range(20):
            start = time.monotonic()
            with urllib.request.urlopen(f"{server.url}/v2/endpoints", timeout=10) as reply:
                assert reply.status == 200
            assert time.monotonic() - start < 5
        # The worker has kept its place, too.
        server.wait_status(server.submit(), "COMPLETED")
    assert "Too many open files" not in server.log.read_text()


def test_held_requests_of_clients_leave_room_for_workers(servers):
    server = servers.start(open_files=256, workers=0, rate_limits="off")
    job_id = server.submit()
    key = server.client.headers["Authorization"]
    wait = f"GET /v2/{DEV}/status-sync/{job_id}?wait=60000 HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n".encode()
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(150)]
        for client in waiting:
            client.sendall(wait)
        told = wait_until(lambda: refused(server), "clients have taken all that is theirs")
        assert told.headers["Retry-After"] == "1"
        assert "too many" in json.loads(told.read())["error"]
        servers.start_worker(server)
        # They are told the end as soon as the worker, for whom there was room, has made it.
        wait_until(lambda: b'"COMPLETED"' in waiting[0].recv(65_536), "the job is done")


def refused(server: Server) -> urllib.error.HTTPError | None:
    try:
        urllib.request.urlopen(f"{server.url}/v2/endpoints", timeout=10)
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return error
    return None


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"GET /", *[b"x" * 2**20] * 40, b" HTTP/1.1\r\n\r\n"], 414),
        ([b"GET / HTTP/1.1\r\nA: ", *[b"x" * 2**20] * 60, b"\r\n\r\n"], 431),
        ([b"GET / HTTP/1.1\r\n", *[b"A: b\r\n" * 2**17] * 10, b"\r\n"], 431),
        ([b"\r\n" * 2**17], 431),
    ],
    ids=["url", "one header", "many headers", "empty lines"],
)
def test_a_giant_head_is_refused_and_read_to_its_end(server, pieces, status):
    answer = answer_to(server, *pieces)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert "KiB" in json.loads(body)["error"]


def test_a_head_that_does_not_come_in_time_is_given_up(server):
    def wait_with(said):
        start = time.monotonic()
        answer = answer_to(server, said)
        return 5 < time.monotonic() - start < 30, answer[:13]

    with ThreadPoolExecutor() as pool:
        nothing, *begun = pool.map(wait_with, (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA"))
    assert nothing == (True, b"")
    assert begun == [(True, b"HTTP/1.1 408 ")] * 2


def body_of(size: int) -> bytes:
    return json.dumps({"input": {"prompt": "x" * size}}).encode()


@pytest.mark.parametrize(
    ("path", "key", "method", "status"),
    [
        (RUN, None, "POST", 400),
        (RUN, "wrong", "POST", 401),
        ("/v2/nothing/run", None, "POST", 404),
        ("/nothing", None, "POST", 404),
        (RUN, None, "PUT", 405),
        (f"/v2/{DEV}/health", None, "GET", 200),
    ],
)
@pytest.mark.parametrize("is_closing", [True, False])
def test_the_answer_to_a_large_body_that_nobody_reads_arrives(server, path, key, method, status, is_closing):
    authorization = f"Bearer {key}" if key else server.client.headers["Authorization"]
    headers = {"Authorization": authorization} | ({"Connection": "close"} if is_closing else {})
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request(method, path, body_of(30 * 2**20), headers)
    reply = client.getresponse()
    assert reply.status == status
    assert json.loads(reply.read())
    if not is_closing:
        # The connection is as good as new.
        client.request("GET", "/v2/endpoints")
        assert client.getresponse().status == 200
    client.close()


def test_urllib_reads_why_a_large_body_was_refused(server):
    request = urllib.request.Request(server.url + RUN, body_of(30 * 2**20), dict(server.client.headers))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 400
    assert "10MiB" in json.loads(refused.value.read())["error"]


def test_who_asks_before_sending_is_told_no_before_sending(server):
    head = f"POST {RUN} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 30000000\r\n\r\n"
    answer = answer_to(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer


def test_a_body_without_end_is_cut_off(server):
    with connect(server) as client, pytest.raises(OSError):
        client.sendall(f"POST {RUN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(1_000):
            client.sendall(b"100000\r\n" + b"x" * 2**20 + b"\r\n")


def test_an_idle_connection_outlives_a_load_balancers(servers):
    server = servers.start(keep_alive_s=2, workers=0)
    with connect(server) as client:
        # Before the answer: the server counts from that, and this process may come late to read it.
        start = time.monotonic()
        client.sendall(b"GET /v2/endpoints HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"flux-1-schnell" not in client.recv(65_536):
            pass
        while client.recv(65_536):
            pass
        assert 1.5 < time.monotonic() - start < 30
