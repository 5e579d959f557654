"""Keeps HTTP servers busy with jobs over loopback and measures them."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# A server that has no room says so with this code; the job is sent again after the pause.
_NO_ROOM = b" 409 "
_PAUSE_S = 0.001


@dataclass(frozen=True)
class Round:
    """One turn of one server."""

    p50_ms: float
    p99_ms: float
    jobs_per_s: float
    p95_ms: float


@dataclass
class Target:
    """A server under test.

    Attributes:
        name: as shown.
        port: on the loopback interface.
        path: to POST jobs to; the answer comes when the job is done.
        marker: what the answer of a job that was done contains.
        headers: further header lines, each with its line end.
        rounds: what was measured, by number of connections.
    """

    name: str
    port: int
    path: str
    marker: bytes
    headers: str = ""
    rounds: dict[int, list[Round]] = field(default_factory=dict)


class Connection:
    """One keep-alive HTTP/1.1 connection: cheaper than a client library, so that the servers are what is measured."""

    def __init__(self, target: Target, body: bytes) -> None:
        head = f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{target.headers}"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._target = target

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port)

    async def job(self) -> float:
        """Run one job; returns its seconds.

        Raises:
            RuntimeError: the answer was not that of a job that was done.
        """
        start = time.perf_counter()
        while True:
            self._writer.write(self._request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await self._reader.readexactly(int(length.split(b":")[1]))
            if self._target.marker in body:
                return time.perf_counter() - start
            if _NO_ROOM not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"{self._target.name} answered {head!r} {body[:300]!r}")
            await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def measure(target: Target, body: bytes, connections: int, seconds: float) -> Round:
    """Keep so many connections busy for so long."""
    pool = [Connection(target, body) for _ in range(connections)]
    await asyncio.gather(*(connection.open() for connection in pool))
    await asyncio.gather(*(connection.job() for connection in pool))  # warm-up
    times_s: list[float] = []
    start = time.perf_counter()

    async def keep_busy(connection: Connection) -> None:
        while time.perf_counter() - start < seconds:
            times_s.append(await connection.job())

    await asyncio.gather(*(keep_busy(connection) for connection in pool))
    elapsed_s = time.perf_counter() - start
    await asyncio.gather(*(connection.close() for connection in pool))
    times_s.sort()
    p50, p95, p99 = (times_s[int(len(times_s) * share)] * 1_000 for share in (0.50, 0.95, 0.99))
    return Round(round(p50, 3), round(p99, 3), round(len(times_s) / elapsed_s, 1), round(p95, 3))


async def until_ready(target: Target, body: bytes, deadline_s: float = 60) -> None:
    """Return when a first job was done; raises what it met if that takes longer than the deadline."""
    start = time.monotonic()
    while True:
        connection = Connection(target, body)
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


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def plain_environment() -> dict[str, str]:
    """The environment without settings of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLUX_ENDPOINT_")}


def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: IO[str]
) -> AbstractContextManager[ExitStack]:
    """A child process for as long as the block lasts."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    stack = ExitStack()
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack
