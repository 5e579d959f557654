"""A webhook is sent once, whatever dies between the end of its job and its delivery."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import standardwebhooks

from tests.servers import DEADLINE_S, Server, run_command, wait_until

BODY = {"input": {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}}


class Receiver(ThreadingHTTPServer):
    """Keeps what it is told; answers 200 as soon as it may."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.may_answer = threading.Event()
        self.answered = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=geheim"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.server.may_answer.wait(DEADLINE_S)
        try:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.server.answered += 1
        except OSError:
            # Who asked is dead.
            pass

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(autouse=True)
def wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE_S)


def secret_of(server: Server) -> str:
    keys = run_command("keys", "list", cwd=server.folder, data_dir=server.data_dir).stdout
    key_id = next(line for line in keys.splitlines() if "default" in line).split("│")[1].strip()
    shown = run_command("webhooks", "secret", key_id, cwd=server.folder, data_dir=server.data_dir)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.strip()


def log_of(server: Server) -> str:
    return run_command("webhooks", "list", cwd=server.folder, data_dir=server.data_dir).stdout


def test_a_gateway_killed_between_end_and_delivery_delivers_after_its_restart(servers, receiver):
    server = servers.start(outbound_allow="127.0.0.1")
    job_id = server.client.post("/run", json=BODY | {"webhook": receiver.url}).json()["id"]
    wait_until(lambda: receiver.got, "the receiver is told")
    server.process.kill()
    server.wait_exit()
    receiver.may_answer.set()
    again = servers.restart(server)
    wait_until(lambda: len(receiver.got) == 2, "the receiver is told again")
    wait_until(lambda: "delivered" in log_of(again), "the log says so")
    (first, _), (second, body) = receiver.got
    assert first["webhook-id"] == second["webhook-id"]
    told = standardwebhooks.Webhook(secret_of(again)).verify(body, second)
    assert (told["id"], told["status"], told["webhook"]) == (job_id, "COMPLETED", receiver.url)
    # What the snapshot says is what clients read.
    assert told["output"] == again.status(job_id)["output"]
    again.process.terminate()
    assert again.wait_exit() == 0
    assert len(receiver.got) == 2
    log = server.log.read_text() + again.log.read_text()
    assert "geheim" not in log + log_of(again)


def test_without_an_allow_list_this_machine_is_not_called(servers, receiver):
    server = servers.start()
    refused = server.client.post("/run", json=BODY | {"webhook": receiver.url})
    assert refused.status_code == 400
    assert "webhook cannot be called: 127.0.0.1 is a loopback address" in refused.json()["error"]
    by_name = receiver.url.replace("127.0.0.1", "localhost")
    assert server.client.post("/run", json=BODY | {"webhook": by_name}).status_code == 200
    wait_until(lambda: "refused" in log_of(server), "the log says so")
    assert receiver.got == []


def test_ctrl_c_does_not_wait_for_a_receiver(servers, receiver):
    server = servers.start(outbound_allow="127.0.0.1")
    server.client.post("/run", json=BODY | {"webhook": receiver.url})
    wait_until(lambda: receiver.got, "the receiver is told")
    server.process.terminate()
    # Half of what the receiver takes.
    assert server.wait_exit(DEADLINE_S / 2) == 0


def test_a_key_with_many_slow_receivers_does_not_delay_another_keys_webhook(servers, receiver):
    server = servers.start(outbound_allow="127.0.0.0/8", rate_limits="off", workers=0)
    made = run_command("keys", "create", "quick", cwd=server.folder, data_dir=server.data_dir).stdout
    quick = {"Authorization": f"Bearer {made.split()[-1]}"}
    # One machine under many names, each of which answers when it may.
    slow = Receiver("0.0.0.0")
    thread = threading.Thread(target=slow.serve_forever, daemon=True)
    thread.start()
    try:
        hooks = [f"http://127.0.1.{number}:{slow.server_port}/" for number in range(40)]
        jobs = [server.client.post("/run", json=BODY | {"webhook": hook}).json()["id"] for hook in hooks]
        for job_id in jobs:
            server.client.post(f"/cancel/{job_id}")
        wait_until(lambda: len(slow.got) >= 32, "the slow ones are being told")
        receiver.may_answer.set()
        job_id = server.client.post("/run", json=BODY | {"webhook": receiver.url}, headers=quick).json()["id"]
        server.client.post(f"/cancel/{job_id}", headers=quick)
        wait_until(lambda: receiver.answered, "the quick one is told")
        # That no more than 32 are sent at once, `tests/contract/test_deliverer.py` holds: here they are given up late.
        assert slow.answered == 0
    finally:
        slow.may_answer.set()
        slow.shutdown()
        slow.server_close()
        thread.join(DEADLINE_S)
