"""A worker whose GPU fails in the middle of a picture, as a process."""

import subprocess
import sys

from flux_endpoint.core.worker import EXIT_DEVICE_FAILED
from tests.servers import DEADLINE_S, DEV, Servers, wait_until

# What `flux-endpoint worker` does, on a card that dies at the second step.
WORKER = f"""
import sys
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.errors import DeviceFailed
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.worker.process import run_worker
class Dying(FakeEngine):
    def generate(self, request, *sources):
        yield next(super().generate(request, *sources))
        raise DeviceFailed("cuda:0 has failed: CUDA error: unspecified launch failure")
run_worker(sys.argv[1], sys.argv[2], "w-dying", {{"{DEV}": Dying(CATALOG["{DEV}"])}}, 4)
"""


def test_its_job_is_drawn_by_another_worker(servers: Servers) -> None:
    server = servers.start(workers=0)
    job_id = server.submit()
    process = subprocess.run(
        [sys.executable, "-c", WORKER, server.url, server.worker_token],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert process.returncode == EXIT_DEVICE_FAILED, process.stderr
    # Not after a lease: at once, and the reason is there to be read.
    assert server.status(job_id)["status"] == "IN_QUEUE"
    (worker,) = server.client.get("/health?details=true").json()["details"]
    assert worker["state"] == "unhealthy"
    assert worker["reason"] == "cuda:0 has failed: CUDA error: unspecified launch failure"
    assert "unspecified launch failure" in server.log.read_text()
    servers.start_worker(server)
    job = server.wait_status(job_id, "COMPLETED")
    assert job["retries"] == 1
    wait_until(lambda: server.health()["workers"]["idle"] == 1, "the other worker is idle")
