"""What is done to the house, one thing after another and some at a time, in an order drawn from the seed."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import psutil

from tests.servers import DEV
from tests.soak.clients import Scene

# More than a gateway keeps open, and far more than a client needs.
_SILENT: Final = 400
# A lease, what a sweep takes to notice, and patience with a worker that is told to stop.
_REPLACED_S: Final = 60
_MIB: Final = 1_048_576


async def _worker_stopped(scene: Scene) -> None:
    """The first gateway's own worker hangs, without ending."""
    worker = scene.house.local_worker()
    if worker is None:
        return
    with scene.journal.trouble("worker stopped", f"SIGSTOP of {worker.pid}"):
        worker.send_signal(signal.SIGSTOP)
        # Its keeper has to notice; it is never let go on.
        _, left = await asyncio.to_thread(psutil.wait_procs, [worker], timeout=_REPLACED_S)
        if left:
            scene.journal.surprise("the house", f"a stopped worker was not replaced within {_REPLACED_S} s")
            worker.kill()


async def _worker_killed(scene: Scene) -> None:
    """A worker elsewhere dies, and its supervisor starts it anew."""
    with scene.journal.trouble("worker killed", "SIGKILL, back 5 s later"):
        scene.house.kill("worker-2")
        await asyncio.sleep(5)
        scene.house.restart("worker-2")


async def _sdk_worker_killed(scene: Scene) -> None:
    """A worker of Runpod's SDK dies with its ping process, as a container does."""
    with scene.journal.trouble("SDK worker killed", "SIGKILL of its group, back 3 s later"):
        scene.house.kill("shouter")
        await asyncio.sleep(3)
        scene.house.restart("shouter")


async def _clock_moved(scene: Scene) -> None:
    """The second gateway's clock jumps, and comes back."""
    # Beyond a quarter of an hour S3 itself refuses what such a machine signs.
    seconds = scene.random.choice([37, 45, -45, -600, 600])
    with scene.journal.trouble("clock moved", f"gateway 2 by {seconds:+d} s"):
        scene.house.move_clock(seconds)
        await asyncio.sleep(20)
        scene.house.move_clock(0)


async def _silent_connections(scene: Scene) -> None:
    """Connections that say nothing, or half a request, and are held."""
    for port in scene.house.ports:
        await _hold(scene, port)


async def _hold(scene: Scene, port: int) -> None:
    with scene.journal.trouble("silent connections", f"{_SILENT} to port {port}"):
        held = []
        for number in range(_SILENT):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    held.append(writer)
                    if number % 2:
                        writer.write(f"POST /v2/{DEV}/run HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n".encode())
        await asyncio.sleep(15)
        for writer in held:
            writer.close()


async def _oversized(scene: Scene) -> None:
    """Bodies, heads and addresses that are far too large; sent as fast as they are taken, for 5 s at most."""
    key = scene.keys["nuisance"]
    head = f"POST /v2/{DEV}/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    sent = {
        "body": head.encode() + b"Content-Length: 62914560\r\n\r\n" + b"x" * (60 * _MIB),
        "head": head.encode() + b"X-Long: " + b"x" * (60 * _MIB),
        "address": b"GET /" + b"x" * (40 * _MIB) + b" HTTP/1.1\r\n\r\n",
    }
    for kind, content in sent.items():
        with scene.journal.trouble("oversized", f"{kind} of {len(content) // _MIB} MiB"):
            await asyncio.gather(*(_send(port, content) for port in scene.house.ports))


async def _send(port: int, content: bytes) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for start in range(0, len(content), _MIB):
                    writer.write(content[start : start + _MIB])
                    await writer.drain()
                await reader.read(_MIB)
            finally:
                writer.close()


async def _large_input(scene: Scene) -> None:
    """The largest input that an endpoint without a schema takes, many values deep in it."""
    caller = scene.caller("nuisance")
    body = {"input": {"text": "x", "list": list(range(900_000))}}
    with scene.journal.trouble("large input", "900,000 numbers"):
        job = await caller.ask(
            "large run", "POST", "/v2/shout/run", body=body, codes=(200, 400, 413), work_s=lambda _: 9
        )
    if isinstance(job, dict) and "id" in job and job.get("status") != "FAILED":
        scene.journal.promise("nuisance", job["id"], "shout")
    await caller.close()


_KINDS: Final[list[Callable[[Scene], Awaitable[None]]]] = [
    _worker_stopped,
    _worker_killed,
    _sdk_worker_killed,
    _clock_moved,
    _silent_connections,
    _oversized,
    _large_input,
]


async def make_trouble(scene: Scene) -> None:
    """Each kind once in an order of the seed's, then again; two hands at it, so that things happen at the same time."""

    async def hand(kinds: list[Callable[[Scene], Awaitable[None]]]) -> None:
        while True:
            for kind in scene.random.sample(kinds, len(kinds)):
                await asyncio.sleep(scene.random.uniform(4, 12))
                await kind(scene)

    # What is done to processes and clocks is kept apart from what is done to sockets.
    await asyncio.gather(hand(_KINDS[:4]), hand(_KINDS[4:]))
