"""A client's bucket that never answers, and what dies meanwhile: nobody waits for it, and no job is lost."""

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.servers import DEADLINE_S, Server, wait_until

SMALL = {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}
JOBS = 6


class Bucket(ThreadingHTTPServer):
    """Takes every object, and says so as soon as it may."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.taken: list[str] = []
        self.may_answer = threading.Event()

    @property
    def config(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server_port}"
        return {"accessId": "a", "accessSecret": "b", "bucketName": "pictures", "endpointUrl": url}


class Handler(BaseHTTPRequestHandler):
    server: Bucket

    def do_PUT(self) -> None:
        name = self.path.partition("?")[0]
        self.server.asked.append(name)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.may_answer.wait(DEADLINE_S)
        try:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.server.taken.append(name)
        except OSError:
            # Who asked is gone.
            pass

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = Bucket()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        server.server_close()


def submit(server: Server, bucket: Bucket) -> str:
    reply = server.client.post("/run", json={"input": SMALL, "s3Config": bucket.config})
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_silent_bucket_holds_nobody_up_and_a_restart_loses_nothing(servers, bucket, number):
    server = servers.start(model="fake", outbound_allow="127.0.0.1")
    stuck = [submit(server, bucket) for _ in range(JOBS)]
    wait_until(lambda: len(bucket.asked) == JOBS, "all pictures are on their way")
    other = server.submit(num_inference_steps=1)
    server.wait_status(other, "COMPLETED")
    assert {server.status(job_id)["status"] for job_id in stuck} == {"IN_PROGRESS"}
    assert server.charges() == [other]
    assert server.health()["workers"]["running"] == 0
    server.signal(number)
    if number is signal.SIGTERM:
        # Half of what the bucket takes.
        assert server.wait_exit(DEADLINE_S / 2) == 0
    else:
        server.wait_exit()
    bucket.may_answer.set()
    again = servers.restart(server)
    for job_id in stuck:
        # The gateway's end is no fault of the job's.
        assert "retries" not in again.wait_status(job_id, "COMPLETED")
    assert sorted(again.charges()) == sorted([*stuck, other])
    assert {name.removeprefix("/pictures/").removesuffix(".jpg") for name in bucket.taken} == set(stuck)
