"""What breaks in the chaos run, in an order drawn from the seed."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import psutil

from tests.proxy import Proxy
from tests.soak.chaos_house import WRONG_S, ChaosHouse
from tests.soak.journal import Journal

_SHORTEST_S: Final = 0.3


class Breakage:
    """Breaks one thing after another, and mends it after some seconds, or when it is told to end.

    Args:
        house: where.
        journal: notes what and when.
        rng: of the seed.
        longest_s: for which anything stays broken, and then as long nothing is.
    """

    def __init__(self, house: ChaosHouse, journal: Journal, rng: random.Random, longest_s: float) -> None:
        self._house, self._journal, self._random, self._longest_s = house, journal, rng, longest_s
        self._kinds: list[Callable[[float], Awaitable[None]]] = [
            self._gateway_killed,
            self._gateway_stopped,
            self._worker_killed,
            self._worker_paused,
            self._postgres_killed,
            self._postgres_shut_down,
            self._bucket_killed,
            self._clock_moved,
            self._network,
            self._network,
            self._network,
        ]
        if house.nodes:
            self._kinds.append(self._machine_lost)

    async def run(self) -> None:
        """Break until cancelled: each kind once in a drawn order, then again. What is broken then is mended."""
        while True:
            for kind in self._random.sample(self._kinds, len(self._kinds)):
                await asyncio.sleep(self._random.uniform(_SHORTEST_S, self._longest_s))
                await kind(round(self._random.uniform(_SHORTEST_S, self._longest_s), 1))

    async def supervise(self) -> None:
        """Start what has ended by itself, as a supervisor does; a gateway ends so when it starts without a database."""
        while True:
            await asyncio.sleep(1)
            for name in self._house.mend():
                with self._journal.trouble("ended by itself", name):
                    pass

    async def _gateway_killed(self, for_s: float) -> None:
        await self._down(self._random.choice(["gateway-1", "gateway-2"]), signal.SIGKILL, for_s)

    async def _gateway_stopped(self, for_s: float) -> None:
        await self._down(self._random.choice(["gateway-1", "gateway-2"]), signal.SIGTERM, for_s)

    async def _bucket_killed(self, for_s: float) -> None:
        await self._down("s3", signal.SIGKILL, for_s)

    async def _down(self, name: str, number: signal.Signals, for_s: float) -> None:
        kind = f"{name.partition('-')[0]} {'killed' if number is signal.SIGKILL else 'stopped'}"
        process = self._house.processes[name]
        with self._journal.trouble(kind, f"{name}, for {for_s} s"):
            self._house.down.add(name)
            try:
                process.send_signal(number)
                await asyncio.to_thread(process.wait, 20)
                await asyncio.sleep(for_s)
            finally:
                # With what it has started itself.
                self._house.kill(name)
                self._house.restart(name)
                self._house.down.discard(name)

    async def _worker_killed(self, _: float) -> None:
        if workers := self._house.workers():
            worker = self._random.choice(workers)
            with self._journal.trouble("worker killed", f"process {worker.pid}"):
                worker.kill()

    async def _worker_paused(self, for_s: float) -> None:
        if workers := self._house.workers():
            worker = self._random.choice(workers)
            # At times for longer than its lease.
            for_s *= self._random.choice([1, 4])
            with self._journal.trouble("worker paused", f"process {worker.pid}, for {for_s:.1f} s"):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.suspend()
                try:
                    await asyncio.sleep(for_s)
                finally:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        worker.resume()

    async def _machine_lost(self, for_s: float) -> None:
        assert self._house.nodes
        node = self._random.choice(self._house.nodes.all)
        with self._journal.trouble("machine lost", f"another one joins {for_s} s later"):
            self._house.nodes.lose(node)
            try:
                await asyncio.sleep(for_s)
            finally:
                # Ray insists on the main thread.
                self._house.nodes.add()

    async def _postgres_killed(self, for_s: float) -> None:
        await self._postgres(signal.SIGKILL, for_s)

    async def _postgres_shut_down(self, for_s: float) -> None:
        await self._postgres(signal.SIGQUIT, for_s)

    async def _postgres(self, number: signal.Signals, for_s: float) -> None:
        kind = "PostgreSQL killed" if number is signal.SIGKILL else "PostgreSQL ended at once"
        with self._journal.trouble(kind, f"for {for_s} s"):
            self._house.kill_postgres(number)
            try:
                await asyncio.sleep(for_s)
            finally:
                self._house.start_postgres()

    async def _clock_moved(self, for_s: float) -> None:
        # Beyond a quarter of an hour S3 itself refuses what such a machine signs.
        seconds = self._random.choice([-600, -45, 37, 600])
        with self._journal.trouble("clock moved", f"gateway 2 is off by {seconds:+d} s for {for_s} s"):
            self._house.move_clock(seconds)
            try:
                await asyncio.sleep(for_s)
            finally:
                self._house.move_clock(WRONG_S)

    async def _network(self, for_s: float) -> None:
        way: tuple[str, Proxy] = self._random.choice(
            [("database", self._house.database), ("bucket", self._house.bucket), ("clients", self._house.front)]
        )
        name, proxy = way
        kind = self._random.choice(["delayed", "cut", "refused", "swallowed"])
        with self._journal.trouble(f"network {kind}", f"to {name}, for {for_s} s"):
            try:
                if kind == "delayed":
                    proxy.delay_s = 0.1
                else:
                    {"cut": proxy.cut, "refused": proxy.refuse, "swallowed": proxy.swallow}[kind]()
                await asyncio.sleep(for_s)
            finally:
                proxy.delay_s = 0.0
                proxy.flow()
