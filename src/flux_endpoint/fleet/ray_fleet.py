"""Workers as actors of a Ray cluster, as the gateway sees them."""

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Final

from flux_endpoint.fleet.local import Backoff
from flux_endpoint.fleet.protocol import FleetWorker, WorkerEvents
from flux_endpoint.fleet.ray_messages import DriverSettings, FleetReport, FleetRequest, PlacedWorker

logger = logging.getLogger(__name__)

DRIVER: Final = (sys.executable, "-m", "flux_endpoint.fleet.ray_driver")
# Between two looks at the cluster.
_LOOK_S: Final = 3.0
# For one answer: a driver that needs longer hangs in Ray and is started anew. It gives up joining a cluster by itself.
_ANSWER_S: Final = 75.0
# What `stop` leaves for the rest of the gateway's 5 s: the workers of a cluster of its own leave meanwhile.
_STOP_S: Final = 4.0
# How long a number of workers is wanted, once it was said.
_COUNT_S: Final = 10.0
_BACKOFF: Final = Backoff(first_s=2)


class RayFleet:
    """Keeps a number of workers on a Ray cluster by way of a driver, a small process of its own.

    The driver connects in its own time: neither a cluster that is away nor one that hangs holds the gateway up. Workers
    of a cluster that was there before stay when the gateway ends, and its successor finds them.

    Implements `Fleet`.

    Args:
        driver_settings: for the driver.
        environment: the whole environment of the driver and, on a cluster of its own, of Ray.
        events: told of every worker that is seen first, and of every one whose host saw it end. Of a worker whose host
            is away nobody knows whether it has ended: its leases tell.
        backoff: pause before the driver is started again.
        driver: the command that starts it.
    """

    is_shared = True

    def __init__(
        self,
        driver_settings: DriverSettings,
        environment: Mapping[str, str],
        events: WorkerEvents,
        backoff: Backoff = _BACKOFF,
        driver: Sequence[str] = DRIVER,
    ) -> None:
        self._settings, self._environment, self._driver = driver_settings, environment, driver
        self._events, self._backoff = events, backoff
        self._count: int | None = None
        self._count_ends_s = 0.0
        self._busy = frozenset[str]()
        self._restart: set[str] = set()
        self._replace: set[str] = set()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._placed: Mapping[str, PlacedWorker | None] = {}
        self._trouble = ""
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the driver; returns before it has joined the cluster. How many workers there are, `scale` says."""
        self._keeper = asyncio.create_task(self._keep())

    async def scale(self, workers: int, busy: Collection[str] = ()) -> None:
        """See `Fleet.scale`. It holds for 10 s: of several servers the one that decides says it again and again."""
        self._busy = frozenset(busy)
        self._count_ends_s = time.monotonic() + _COUNT_S
        if workers != self._count:
            self._count = workers
            self._changed.set()

    async def restart(self, worker_id: str) -> None:
        """See `Fleet.restart`."""
        self._restart.add(worker_id)
        self._changed.set()

    async def replace(self, worker_id: str, why: str) -> None:
        """See `Fleet.replace`."""
        if any(one is not None and one.worker_id == worker_id for one in self._placed.values()):
            logger.error("worker %s is ended: %s", worker_id, why)
            self._replace.add(worker_id)
            self._changed.set()

    async def list(self) -> Sequence[FleetWorker]:
        """See `Fleet.list`: as seen last; those that Ray has still to place have no id yet."""
        return [FleetWorker(one.worker_id, one.pid, one.restarts) for one in self._placed.values() if one]

    async def wait_refused(self) -> int:
        """For ever: what a worker refuses on one machine may be right on another, or later. It is tried again."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def stop(self) -> None:
        """End the driver. Workers leave with a cluster that is its own, others stay. See `Fleet.stop`."""
        self._stopping.set()
        keeper, self._keeper = self._keeper, None
        if keeper:
            await keeper

    async def _keep(self) -> None:
        pause_s = self._backoff.first_s
        while not self._stopping.is_set():
            try:
                if await self._drive():
                    pause_s = self._backoff.first_s
            except OSError as error:
                logger.error("the Ray driver cannot be started: %s", error)
            if self._stopping.is_set():
                return
            logger.warning("no Ray driver: it is started again in %.0f s; the workers there go on", pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(self._backoff.last_s, 2 * pause_s)

    async def _drive(self) -> bool:
        """Start a driver and tell it what is wanted until it or this fleet ends; whether it ever answered."""
        process = await asyncio.create_subprocess_exec(
            *self._driver,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**24,
            # Ctrl-C in a terminal reaches the gateway alone.
            start_new_session=True,
        )
        assert process.stdin and process.stdout
        has_answered = False
        try:
            self._count = None
            process.stdin.write(self._settings.to_json().encode() + b"\n")
            while not self._stopping.is_set():
                seen = await self._ask(process.stdin, process.stdout)
                if seen is None:
                    break
                if not has_answered:
                    # What was wanted before it was known who is there was wanted in ignorance.
                    self._count, has_answered = None, True
                await self._note(seen)
                await self._rest()
        finally:
            await _end(process)
        return has_answered

    async def _ask(self, requests: asyncio.StreamWriter, answers: asyncio.StreamReader) -> FleetReport | None:
        """What the driver answers to the present request; None when it does not, or the fleet is to stop."""
        self._changed.clear()
        if time.monotonic() >= self._count_ends_s:
            self._count = None
        request = FleetRequest(
            self._count, self._busy, restart=frozenset(self._restart), replace=frozenset(self._replace)
        )
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            requests.write(request.to_json().encode() + b"\n")
            await requests.drain()
            reading = asyncio.ensure_future(answers.readline())
            await asyncio.wait({reading, stopping}, timeout=_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return None
        finally:
            stopping.cancel()
        if not reading.done():
            reading.cancel()
            if not self._stopping.is_set():
                logger.error("the Ray driver has not answered for %.0f s and is ended", _ANSWER_S)
            return None
        if not (line := await reading):
            return None
        self._restart -= request.restart
        self._replace -= request.replace
        return FleetReport.from_json(line.decode())

    async def _rest(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._changed, self._stopping)]
        await asyncio.wait(waits, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _note(self, seen: FleetReport) -> None:
        """Tell the rest of the gateway what has changed."""
        if seen.trouble != self._trouble:
            self._trouble = seen.trouble
            (logger.error if seen.trouble else logger.info)("%s", seen.trouble or "workers are placed again")
        if seen.trouble:
            return
        before, self._placed = self._placed, seen.placed
        for worker_id in seen.left:
            await self._tell(self._events.leaves(worker_id))
            await self._tell(self._events.left(worker_id))
        for worker_id in seen.lost:
            await self._tell(self._events.lost(worker_id))
        for name, now in seen.placed.items():
            old = before.get(name)
            if now is None or (old is not None and old.worker_id == now.worker_id):
                continue
            if old is not None and old.host == now.host:
                await self._tell((self._events.lost if now.last_end else self._events.left)(old.worker_id))
            died = f"the worker before it died: {now.last_end}" if now.last_end else ""
            await self._tell(self._events.starts(now.worker_id, died))

    async def _tell(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except Exception:
            logger.exception("the start or the end of a worker could not be noted")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let the driver leave by closing its input; end it when it does not."""
    if process.stdin:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
