"""The receiver that docs/guides/webhooks.md shows, as it is, told by a real server."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers import DEADLINE_S, Servers
from tests.system.test_webhooks import BODY, secret_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhook_receiver.py"


def test_the_example_takes_what_is_signed_and_nothing_else(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    server = servers.start(outbound_allow="127.0.0.1")
    receiver = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "0"],
        env=os.environ | {"WEBHOOK_SECRET": secret_of(server)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert receiver.stdout is not None
        url = f"http://127.0.0.1:{receiver.stdout.readline().split()[-1]}/"
        assert httpx.post(url, json={"id": "forged"}, timeout=DEADLINE_S, trust_env=False).status_code == 401
        job_id = server.client.post("/run", json=BODY | {"webhook": url}).json()["id"]
        assert receiver.stdout.readline().split()[:2] == [job_id, "COMPLETED"]
    finally:
        receiver.terminate()
        receiver.communicate(timeout=DEADLINE_S)
