"""Starting: what is said when it works, and the one line when it does not."""

import json
import os
import pty
import signal
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.servers import COMMAND, DEV, SCHNELL, clean_environment, run_command, wait_until


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("flux-endpoint: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_the_greeting_has_all_that_the_first_picture_needs(servers):
    # On a port that the system chooses.
    server = servers.start(port=0)
    text = server.output.read_text()
    key = (server.data_dir / "api-key").read_text().strip()
    assert key in text
    assert f"Playground  {server.url}/#key={key}\n" in text
    assert f"{server.url}/v2/{DEV}" in text
    assert f"{server.url}/v2/{SCHNELL}" in text
    assert httpx.get(f"{server.url}/docs").status_code == 200
    assert (server.data_dir / "api-key").stat().st_mode & 0o777 == 0o600
    assert (server.data_dir / "worker-token").stat().st_mode & 0o777 == 0o600
    # The line as a person pastes it, in a shell that stands elsewhere.
    curl = text[text.index("curl") :]
    done = subprocess.run(
        ["bash", "-c", curl], capture_output=True, text=True, check=True, cwd="/", env=clean_environment()
    )
    assert '"status":"COMPLETED"' in done.stdout


def test_the_key_is_shown_at_the_first_start_only(servers):
    server = servers.start(workers=0)
    key = (server.data_dir / "api-key").read_text().strip()
    server.signal(signal.SIGTERM)
    server.wait_exit()
    again = servers.restart(server)
    assert key not in again.output.read_text()
    assert str(again.data_dir / "api-key") in again.output.read_text()
    assert f"Playground  {again.url}/\n" in again.output.read_text()
    assert again.health()["jobs"]["inQueue"] == 0


def test_on_a_terminal_every_start_shows_the_link_that_signs_in(servers):
    server = servers.start(workers=0)
    key = (server.data_dir / "api-key").read_text().strip()
    server.signal(signal.SIGTERM)
    server.wait_exit()
    reading, writing = pty.openpty()
    environment = clean_environment(**server.settings)
    with subprocess.Popen(
        [*COMMAND, "serve"], env=environment, cwd=server.folder, stdout=writing, stderr=subprocess.DEVNULL
    ) as process:
        os.close(writing)
        shown = b""
        while b"Try it" not in shown:
            shown += os.read(reading, 1_000)
        process.terminate()
    os.close(reading)
    assert f"/#key={key}" in shown.decode()


def test_secrets_stand_in_no_argument_and_no_log(servers):
    server = servers.start(log_format="json")
    job_id = server.submit(prompt="a very private lake")
    server.wait_status(job_id, "COMPLETED")
    secrets = [(server.data_dir / name).read_text().strip() for name in ("api-key", "worker-token")]
    for process in server.workers():
        assert not [argument for argument in process.cmdline() if argument in secrets]
    log = server.log.read_text()
    assert not [secret for secret in secrets if secret in log]
    assert "private" not in log
    assert {json.loads(line)["process"] for line in log.splitlines()} == {"gateway", "worker"}


def test_fixed_secrets_are_used_and_kept_nowhere(servers):
    server = servers.start(api_key="fxe_chosen-by-me", worker_token="fxw_chosen-by-me")
    assert not (server.data_dir / "api-key").exists()
    assert not (server.data_dir / "worker-token").exists()
    text = server.output.read_text()
    assert "chosen-by-me" not in text
    assert "$FLUX_ENDPOINT_API_KEY" in text
    server.wait_status(server.submit(), "COMPLETED")


def test_schnell_is_offered_only_with_a_model_of_its_own(servers):
    # No worker: the gateway alone decides what it offers.
    server = servers.start(model="./some-weights", workers=0)
    assert SCHNELL not in server.output.read_text()
    assert server.client.get(f"{server.url}/v2/{SCHNELL}/health").status_code == 404


def test_a_taken_port_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = refusal(run_command("serve", cwd=tmp_path, port=port, model="fake"), 2)
    assert f"port {port}" in text
    assert "--port" in text


def test_a_second_server_on_the_same_data_is_one_line(servers, tmp_path):
    server = servers.start(workers=0)
    text = refusal(run_command("serve", cwd=tmp_path, port=0, model="fake", data_dir=server.data_dir), 2)
    assert f"another server (pid {server.process.pid}) already uses DATA_DIR" in text


@pytest.mark.parametrize(
    ("settings", "code", "expected"),
    [
        ({"port": "http"}, 2, "FLUX_ENDPOINT_PORT"),
        ({"prot": "8000"}, 2, "did you mean FLUX_ENDPOINT_PORT?"),
        ({"database_url": "sqlite:////proc/nowhere/jobs.db"}, 1, ""),
        ({"database_url": "postgresql://nobody:geheim@127.0.0.1:1/none"}, 1, ""),
        ({"image_store_url": "ftp://elsewhere"}, 2, "IMAGE_STORE_URL"),
        ({"data_dir": "/proc/nowhere"}, 2, "DATA_DIR /proc/nowhere cannot be written"),
        ({"host": "no.such.host.invalid"}, 2, "no.such.host.invalid"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_setting_that_cannot_be_used_is_one_line(tmp_path, settings, code, expected):
    text = refusal(run_command("serve", cwd=tmp_path, **{"model": "fake", "port": 0, **settings}), code)
    assert expected in text
    assert "geheim" not in text


def test_a_wrong_model_ends_the_server_with_the_workers_line(tmp_path):
    done = run_command("serve", cwd=tmp_path, port=0, model="fake:soon")
    assert done.returncode == 78
    # The gateway's log may have it as well: the worker tells it.
    lines = [line for line in done.stderr.splitlines() if line.startswith("flux-endpoint: ")]
    assert len(lines) == 1
    assert "fake:soon" in lines[0]
    assert "Traceback" not in done.stderr
    assert "is ready" not in done.stdout


def test_a_worker_with_a_wrong_token_ends_with_one_line(servers, tmp_path):
    server = servers.start(workers=0)
    done = run_command(
        "worker", cwd=tmp_path, gateway=server.url, worker_token="wrong", model="fake", log_level="error"
    )
    assert "refused the worker token" in refusal(done, 78)


def test_keys_can_be_made_and_revoked_beside_a_running_server(servers):
    server = servers.start(workers=0)
    made = run_command("keys", "create", "friend", cwd=server.folder)
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": made.stdout.splitlines()[-1]}
    assert httpx.get(f"{server.url}/v2/{DEV}/health", headers=headers).status_code == 200
    assert run_command("keys", "revoke", made.stdout.split()[1], cwd=server.folder).returncode == 0
    # A key in use is remembered for two seconds.
    wait_until(
        lambda: httpx.get(f"{server.url}/v2/{DEV}/health", headers=headers).status_code == 401, "the key is refused"
    )


def test_ready_is_said_when_a_worker_has_loaded_its_model(servers):
    server = servers.start()
    assert "takes requests; its worker is loading the model" in server.output.read_text()
    said = wait_until(lambda: "is ready: " in (text := server.output.read_text()) and text, "the server is ready")
    assert said.index("Try it") < said.index("is ready: ")
    assert server.health()["workers"]["initializing"] == 0
    without = servers.start(workers=0, data_dir=server.folder / "other")
    assert "takes requests; workers join from elsewhere" in without.output.read_text()
    assert "is ready" not in without.output.read_text()


def test_a_worker_from_elsewhere_that_cannot_load_its_model_says_so_in_the_health(servers):
    server = servers.start(workers=0)
    worker = servers.start_worker(server, model="fake:soon", worker_id="lab")
    assert worker.wait(60) == 78
    (details,) = server.client.get("/health?details=true").json()["details"]
    assert (details["id"], details["state"]) == ("lab", "unhealthy")
    assert "fake:soon" in details["reason"]


def test_the_health_counts_the_workers(servers):
    server = servers.start()
    health = wait_until(lambda: (health := server.health())["workers"]["ready"] == 1 and health, "a worker is ready")
    assert health["workers"]["idle"] == 1
    assert health["workers"]["unhealthy"] == 0


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "full.png").symlink_to("/dev/full")
    done = run_command("generate", "a lake", "-o", "full.png", cwd=tmp_path, model="fake")
    assert done.returncode == 2
    # Before it stands what the fake model says about itself.
    assert done.stderr.splitlines()[1:] == ["flux-endpoint: full.png cannot be written: No space left on device"]


class _Refusing(BaseHTTPRequestHandler):
    """A bucket that is not there."""

    def do_PUT(self) -> None:
        body = b"<Error><Code>NoSuchBucket</Code></Error>"
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


def test_a_bucket_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as bucket:
        threading.Thread(target=bucket.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{bucket.server_port}",
            "AWS_ACCESS_KEY_ID": "test-id",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        done = run_command("serve", "--port=0", cwd=tmp_path, model="fake", image_store_url="s3://pictures")
        bucket.shutdown()
    expected = (
        "IMAGE_STORE_URL names a place where no picture can be kept: the image store has no such bucket or folder\n"
    )
    assert refusal(done, 2).endswith(expected)


def test_a_data_folder_that_takes_no_writing_is_one_line(tmp_path):
    # The file opens and is locked; only writing to it fails, as on a full disk.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").symlink_to("/dev/full")
    text = refusal(run_command("serve", cwd=tmp_path, port=0, model="fake", data_dir=tmp_path / "data"), 2)
    assert f"DATA_DIR {tmp_path / 'data'} cannot be written" in text
