"""Real servers and workers as processes of their own, with folders of their own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.proxy import held_port

DEV = "black-forest-labs-flux-1-dev"
SCHNELL = "black-forest-labs-flux-1-schnell"
COMMAND = [sys.executable, "-m", "flux_endpoint"]
# Far beyond what anything here takes; only a test that fails ever waits so long.
DEADLINE_S = 120


def wait_until(question: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The answer to a question, asked again and again until it is true."""
    end_s = time.monotonic() + deadline_s
    while True:
        if answer := question():
            return answer
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {deadline_s} s in vain until {what}")
        time.sleep(0.02)


def clean_environment(**settings: object) -> dict[str, str]:
    """The environment without any settings of ours but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("FLUX_ENDPOINT_")}
    ours = {f"FLUX_ENDPOINT_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    return inherited | {"OMP_NUM_THREADS": "1"} | ours


def run_command(*arguments: str, cwd: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(**settings),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


@dataclass
class Server:
    """A running `serve` and what a client needs to talk to it."""

    process: subprocess.Popen[bytes]
    folder: Path
    settings: Mapping[str, object]
    output: Path
    log: Path
    client: httpx.Client = field(init=False)
    url: str = field(init=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def worker_token(self) -> str:
        return (self.data_dir / "worker-token").read_text().strip()

    def wait_ready(self) -> None:
        def greeting() -> str:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log.read_text()}")
            text = self.output.read_text()
            return text if "Try it" in text else ""

        text = wait_until(greeting, "the server greets")
        self.url = re.search(rf"(http://\S+)/v2/{DEV}", text).group(1)
        fixed = self.settings.get("api_key")
        key = fixed or (self.data_dir / "api-key").read_text().strip()
        self.client = httpx.Client(
            base_url=f"{self.url}/v2/{DEV}", headers={"Authorization": f"Bearer {key}"}, timeout=DEADLINE_S
        )

    def submit(self, **fields: object) -> str:
        """Queue a small picture; returns the id of the job."""
        body = {"input": {"prompt": "a lake", "width": 256, "height": 256} | fields}
        reply = self.client.post("/run", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["id"]

    def status(self, job_id: str) -> dict[str, Any]:
        reply = self.client.get(f"/status/{job_id}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def wait_status(self, job_id: str, status: str) -> dict[str, Any]:
        """The job, as soon as it is in a state."""
        job: dict[str, Any] = {}

        def is_there() -> bool:
            job.clear()
            job.update(self.status(job_id))
            return job["status"] == status

        try:
            wait_until(is_there, f"job {job_id} is {status}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {job}; the log:\n{self.log.read_text()}") from None
        return job

    def health(self) -> dict[str, Any]:
        return self.client.get("/health").json()

    def workers(self) -> list[psutil.Process]:
        """The worker processes; they may be starting."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def wait_worker(self) -> psutil.Process:
        return wait_until(self.workers, "a worker process exists")[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_exit(self, deadline_s: float = DEADLINE_S) -> int:
        return self.process.wait(deadline_s)

    def charges(self) -> list[str]:
        """Ids of the jobs that were charged, read from the database itself."""
        code = (
            "import asyncio, json, sys\n"
            "from flux_endpoint.core.clock import SystemClock\n"
            "from flux_endpoint.stores.connect import open_stores\n"
            "async def read():\n"
            "    store = await open_stores(sys.argv[1], SystemClock())\n"
            "    entries = await store.accounts.entries()\n"
            "    await store.close()\n"
            "    return [entry.job_id for entry in entries]\n"
            "print(json.dumps(asyncio.run(read())))\n"
        )
        url = f"sqlite:///{self.data_dir}/flux-endpoint.db"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)


class Servers:
    """Starts servers, and ends at the end whatever is left of them."""

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self._started: list[Server] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        # To the end: one that is started again finds its port as it left it.
        self._ports = contextlib.ExitStack()

    def start(
        self,
        folder: Path | None = None,
        open_files: int | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Server:
        """A server that is ready; on a free port and the fake engine unless told otherwise.

        Args:
            folder: where it runs and keeps its data.
            open_files: how many it may have, as `ulimit -n` says it.
            environment: variables that are no settings.
            settings: of the server.
        """
        folder = folder or self._tmp_path
        number = len(self._started)
        output, log = folder / f"output-{number}", folder / f"log-{number}"
        settings = {"model": "fake:0.02", "log_level": "debug", "data_dir": folder / "data"} | settings
        if "port" not in settings:
            settings["port"] = self._ports.enter_context(held_port())
        with output.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(
                [*(["prlimit", f"--nofile={open_files}"] if open_files else []), *COMMAND, "serve"],
                env=clean_environment(**settings) | dict(environment or {}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        server = Server(process, folder, settings, output, log)
        self._started.append(server)
        server.wait_ready()
        return server

    def restart(self, server: Server, **changes: object) -> Server:
        """A server on the data and the port of one that has ended."""
        server.client.close()
        return self.start(server.folder, **{**server.settings, "port": server.port, **changes})

    def start_worker(self, server: Server, **settings: object) -> subprocess.Popen[bytes]:
        """A worker that `serve` did not start."""
        log = server.folder / "worker-log"
        settings = {"gateway": server.url, "worker_token": server.worker_token, "model": "fake:0.02"} | settings
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, "worker"], env=clean_environment(**settings), cwd=server.folder, stderr=stderr
            )
        self._workers.append(process)
        return process

    def close(self) -> None:
        children = {child for server in self._started for child in server.workers()}
        for process in [server.process for server in self._started] + self._workers:
            if process.poll() is None:
                process.kill()
            process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=DEADLINE_S)
        for server in self._started:
            if hasattr(server, "client"):
                server.client.close()
        self._ports.close()
