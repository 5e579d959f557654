"""How much time the product adds to a job: gateway, queue, worker and image store around an engine that does nothing.

Three servers run side by side on loopback and are measured in turn, round after round, so that a noisy neighbour hits
all of them:

- ours: `flux-endpoint serve` with the fake engine. Each job is written to SQLite, pulled by the worker process, its
  picture uploaded and saved, charged and answered.
- bare FastAPI: one route that answers a constant. Nothing is queued, stored or run.
- Runpod's local API server (`runpod.serverless.start` with `--rp_serve_api`): runs the handler in the server's own
  process and keeps nothing.

    python -m benchmarks.overhead --rounds 5 --seconds 3
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "overhead.json"
DEV = "/v2/black-forest-labs-flux-1-dev"
BODY = json.dumps({"input": {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}}).encode()

BARE_FASTAPI = """
import sys, uvicorn
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/runsync")
async def runsync(request: Request) -> dict:
    await request.json()
    return {"id": "x", "status": "COMPLETED", "output": {"image_url": "http://x/y.png", "cost": 0.0013}}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
RUNPOD_LOCAL = """
import runpod
runpod.serverless.start({"handler": lambda job: {"image_url": "http://x/y.png", "cost": 0.0013}})
"""


@dataclass
class Target:
    """A server under test and what was measured of it: by connections, a list of (p50 ms, p99 ms, jobs/s) rounds."""

    name: str
    port: int
    path: str
    headers: str
    rounds: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)


class Connection:
    """One keep-alive HTTP/1.1 connection: cheaper than a client library, so that the servers are what is measured."""

    def __init__(self, target: Target) -> None:
        head = f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{target.headers}"
        self._request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        self._target = target

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port)

    async def job(self) -> float:
        """Run one job; returns its seconds.

        Raises:
            RuntimeError: the answer was not a completed job.
        """
        start = time.perf_counter()
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await self._reader.readexactly(int(length.split(b":")[1]))
        elapsed = time.perf_counter() - start
        if b"COMPLETED" not in body:
            raise RuntimeError(f"{self._target.name} answered {head!r} {body[:300]!r}")
        return elapsed

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def measure(target: Target, connections: int, seconds: float) -> tuple[float, float, float]:
    """Keep `connections` busy for `seconds`; returns p50 ms, p99 ms and jobs/s."""
    pool = [Connection(target) for _ in range(connections)]
    await asyncio.gather(*(connection.open() for connection in pool))
    await asyncio.gather(*(connection.job() for connection in pool))  # warm-up
    times_s: list[float] = []
    start = time.perf_counter()

    async def keep_busy(connection: Connection) -> None:
        while time.perf_counter() - start < seconds:
            times_s.append(await connection.job())

    await asyncio.gather(*(keep_busy(connection) for connection in pool))
    elapsed = time.perf_counter() - start
    await asyncio.gather(*(connection.close() for connection in pool))
    times_s.sort()
    p50, p99 = (times_s[int(len(times_s) * share)] * 1_000 for share in (0.50, 0.99))
    return p50, p99, len(times_s) / elapsed


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def until_ready(target: Target, deadline_s: float = 60) -> None:
    start = time.monotonic()
    while True:
        connection = Connection(target)
        try:
            await connection.open()
            await connection.job()
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            if time.monotonic() - start > deadline_s:
                raise
            await asyncio.sleep(0.2)
        else:
            await connection.close()
            return


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[list[Target]]:
    """Start the three servers; stop them afterwards."""
    key = secrets.token_hex()
    ours = Target("flux-endpoint", free_port(), f"{DEV}/runsync", f"Authorization: Bearer {key}\r\n")
    bare = Target("bare FastAPI", free_port(), "/runsync", "")
    runpod = Target("Runpod local API server", free_port(), "/runsync", "")
    (folder / "handler.py").write_text(RUNPOD_LOCAL)
    settings = {"PORT": str(ours.port), "DATA_DIR": str(folder / "data"), "MODEL": "fake", "API_KEY": key}
    # One key asks more often here than Runpod lets it.
    settings["RATE_LIMITS"] = "off"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_ENDPOINT_")}
    commands: list[tuple[list[str], dict[str, str]]] = [
        (["-m", "flux_endpoint", "serve"], {f"FLUX_ENDPOINT_{name}": value for name, value in settings.items()}),
        (["-c", BARE_FASTAPI, str(bare.port)], {}),
        (["handler.py", "--rp_serve_api", "--rp_api_port", str(runpod.port), "--rp_log_level", "ERROR"], {}),
    ]
    with contextlib.ExitStack() as stack, (folder / "log").open("w") as log:
        for command, extra in commands:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, env=environment | extra, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield [ours, bare, runpod]


def report(targets: list[Target], arguments: argparse.Namespace, machine: dict[str, object]) -> None:
    """Print the table and write the result file."""
    console = Console()
    result: dict[str, object] = {"machine": machine, "rounds": arguments.rounds, "seconds": arguments.seconds}
    for connections in arguments.connections:
        table = Table(title=f"no-op jobs, {connections} connection(s), median of {arguments.rounds} rounds (min-max)")
        for column in ("server", "p50 ms", "p99 ms", "jobs/s", "ratio to bare FastAPI"):
            table.add_column(column, justify="left" if column == "server" else "right")
        base = statistics.median(row[2] for row in targets[1].rounds[connections])
        rows = {}
        for target in targets:
            columns = list(zip(*target.rounds[connections], strict=True))
            cells = [f"{statistics.median(c):.2f} ({min(c):.2f}-{max(c):.2f})" for c in columns]
            ratio = statistics.median(columns[2]) / base
            table.add_row(target.name, *cells, f"{ratio:.3f}")
            rows[target.name] = dict(zip(("p50_ms", "p99_ms", "jobs_per_s"), columns, strict=True)) | {"ratio": ratio}
        console.print(table)
        result[f"connections_{connections}"] = rows
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


async def run(arguments: argparse.Namespace) -> None:
    machine = describe_machine(("fastapi", "uvicorn", "sqlalchemy", "runpod"))
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as targets:
        for target in targets:
            await until_ready(target)
        for _ in range(arguments.rounds):
            for connections in arguments.connections:
                for target in targets:
                    row = await measure(target, connections, arguments.seconds)
                    target.rounds.setdefault(connections, []).append(row)
        report(targets, arguments, machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per server, round and number of connections")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
