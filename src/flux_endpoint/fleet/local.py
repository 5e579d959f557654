"""Workers as child processes of the gateway."""

import asyncio
import contextlib
import logging
import secrets
import signal
import subprocess
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flux_endpoint.core.worker import EXIT_DEVICE_FAILED
from flux_endpoint.fleet.devices import DEVICES_VARIABLE
from flux_endpoint.fleet.protocol import FleetWorker, WorkerEvents

logger = logging.getLogger(__name__)

# 78 is EX_CONFIG of sysexits.h: its model cannot be loaded; 2 is a wrong command line. The worker has said why in one
# line, and starting it again would not help.
REFUSALS: Final = frozenset({2, 78})
# As shells put it.
_EXIT_NOT_STARTED: Final = 127
WORKER_ID_VARIABLE: Final = "FLUX_ENDPOINT_WORKER_ID"
# A worker leaves within 2 s (worker/loop.py); the gateway itself needs some of the 5 s that both have.
LEAVE_S: Final = 2.5
# One that is asked to leave while the gateway stays may be slow on a busy machine; after this it is deaf.
_DEAF_AFTER_S: Final = 15.0
# A worker that lived this long did not die of what killed the one before it.
HEALTHY_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a slot stays empty after its worker died: doubled each time, seconds."""

    first_s: float = 0.5
    last_s: float = 30.0


@dataclass(slots=True)
class _Slot:
    """The place of one worker, and of those that come after it.

    Attributes:
        is_leaving: its worker was asked to leave.
        is_wanted: another worker takes the place of one that ends.
        hurry: set to cut a pause short.
    """

    number: int
    worker_id: str
    process: "asyncio.subprocess.Process | None" = None
    restarts: int = 0
    is_leaving: bool = False
    is_wanted: bool = True
    last_end: str = ""
    refusal: int | None = None
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: "asyncio.Task[None] | None" = None


class LocalFleet:
    """Keeps worker processes alive on this machine; implements `Fleet`. To be made inside a running event loop.

    The children live in sessions of their own, so that Ctrl-C in a terminal reaches the gateway alone, which then
    asks them to leave in order; each holds a pipe to the gateway and leaves by itself when that breaks.

    Args:
        command: starts one worker; it gets its id in the environment.
        environment: the whole environment of the children, secrets included: other users can read arguments.
        workers: how many at the start.
        node: starts all worker ids, so that a successor knows which jobs its predecessor's workers held.
        events: told of every worker.
        devices: the GPUs by the names that CUDA knows, one for each slot in turn; empty to leave that to the workers.
        backoff: pause before a restart.
        leave_s: how long `stop` waits before it ends what has not left.
    """

    is_shared = False

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        workers: int,
        node: str,
        events: WorkerEvents,
        devices: Sequence[str] = (),
        backoff: Backoff = Backoff(),
        leave_s: float = LEAVE_S,
    ) -> None:
        self._command = command
        self._environment = environment
        self._first = workers
        self._node = node
        self._events = events
        self._devices = devices
        self._backoff = backoff
        self._leave_s = leave_s
        self._slots: dict[int, _Slot] = {}
        self._is_stopping = False
        self._refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """See `Fleet.start`."""
        await self.scale(self._first)

    async def scale(self, workers: int, busy: Collection[str] = ()) -> None:
        """See `Fleet.scale`."""
        if self._is_stopping:
            return
        kept = [slot for slot in self._slots.values() if slot.is_wanted]
        # The first to go are those that can never run, then those without a process.
        kept.sort(
            key=lambda slot: (slot.refusal is None, slot.process is not None, slot.worker_id in busy, -slot.number)
        )
        for slot in kept[: max(0, len(kept) - workers)]:
            await self._let_go(slot)
        missing = workers - len(kept)
        # A place whose worker is still leaving is filled again once its device is free.
        for slot in [slot for slot in self._slots.values() if not slot.is_wanted][: max(0, missing)]:
            slot.is_wanted = True
            missing -= 1
        for _ in range(missing):
            number = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
            slot = self._slots[number] = _Slot(number, self._new_worker_id(number))
            slot.keeper = asyncio.create_task(self._keep(slot))

    async def wait_refused(self) -> int:
        """See `Fleet.wait_refused`."""
        return await asyncio.shield(self._refused)

    async def stop(self) -> None:
        """See `Fleet.stop`."""
        self._is_stopping = True
        slots = list(self._slots.values())
        for slot in slots:
            slot.hurry.set()
            _signal(slot.process, signal.SIGTERM)
        if keepers := [slot.keeper for slot in slots if slot.keeper]:
            await asyncio.wait(keepers, timeout=self._leave_s)
            for slot in slots:
                _signal(slot.process, signal.SIGKILL)
            await asyncio.gather(*keepers)

    async def restart(self, worker_id: str) -> None:
        """See `Fleet.restart`."""
        for slot in self._slots.values():
            if slot.worker_id == worker_id:
                self._ask_to_leave(slot)

    async def replace(self, worker_id: str, why: str) -> None:
        """See `Fleet.replace`."""
        for slot in self._slots.values():
            if slot.worker_id == worker_id and slot.process and slot.process.returncode is None:
                logger.error("worker %s is ended: %s", worker_id, why)
                # It may be stopped, or deaf.
                _signal(slot.process, signal.SIGKILL)

    async def list(self) -> Sequence[FleetWorker]:
        """See `Fleet.list`."""
        return [
            FleetWorker(slot.worker_id, slot.process.pid if slot.process else None, slot.restarts, slot.is_leaving)
            for slot in self._slots.values()
        ]

    async def _let_go(self, slot: _Slot) -> None:
        slot.is_wanted = False
        if slot.keeper is None or slot.keeper.done():
            del self._slots[slot.number]
            return
        await self._tell(self._events.leaves(slot.worker_id), slot)
        self._ask_to_leave(slot)

    def _ask_to_leave(self, slot: _Slot) -> None:
        slot.is_leaving = True
        slot.hurry.set()
        _signal(slot.process, signal.SIGTERM)
        if slot.process:
            asyncio.get_running_loop().call_later(_DEAF_AFTER_S, _signal, slot.process, signal.SIGKILL)

    async def _keep(self, slot: _Slot) -> None:
        pause_s = self._backoff.first_s
        while True:
            started_s = time.monotonic()
            exit_code = await self._run(slot)
            if self._is_stopping:
                return
            if exit_code in REFUSALS and not slot.is_leaving:
                await self._note_refusal(slot, exit_code)
                return
            await self._note_end(slot, exit_code)
            if slot.is_leaving or time.monotonic() - started_s > HEALTHY_AFTER_S:
                pause_s = self._backoff.first_s
            slot.is_leaving = False
            slot.hurry.clear()
            if slot.is_wanted and not self._is_stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(slot.hurry.wait(), pause_s)
            if self._is_stopping:
                return
            if not slot.is_wanted:
                del self._slots[slot.number]
                return
            pause_s = min(self._backoff.last_s, 2 * pause_s)
            slot.restarts += 1
            slot.is_leaving = False
            slot.worker_id = self._new_worker_id(slot.number)

    async def _run(self, slot: _Slot) -> int:
        before = f"the worker before it died: {slot.last_end}" if slot.last_end else ""
        await self._tell(self._events.starts(slot.worker_id, before), slot)
        if slot.is_leaving or self._is_stopping:
            return 0
        try:
            process = slot.process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**self._environment, **self._device_of(slot), WORKER_ID_VARIABLE: slot.worker_id},
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            # Out of processes or memory: that may pass.
            logger.error("worker %s cannot be started: %s", slot.worker_id, error)
            return _EXIT_NOT_STARTED
        if slot.is_leaving or self._is_stopping:
            # Who asked did so while the process was being made, and did not see it.
            _signal(process, signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            slot.process = None
            if process.stdin:
                process.stdin.close()

    def _device_of(self, slot: _Slot) -> Mapping[str, str]:
        if not self._devices:
            return {}
        return {DEVICES_VARIABLE: self._devices[slot.number % len(self._devices)]}

    async def _note_end(self, slot: _Slot, exit_code: int) -> None:
        if slot.is_leaving:
            successor = "another takes its place" if slot.is_wanted else "it was no longer needed"
            logger.info("worker %s left, %s", slot.worker_id, successor)
            slot.last_end = ""
            await self._tell(self._events.left(slot.worker_id), slot)
        else:
            slot.last_end = cause_of(exit_code)
            logger.error("worker %s died: %s", slot.worker_id, slot.last_end)
            await self._tell(self._events.lost(slot.worker_id), slot)

    async def _note_refusal(self, slot: _Slot, exit_code: int) -> None:
        slot.refusal = exit_code
        reason = f"it ended with exit code {exit_code} and is not started again: its log says why"
        await self._tell(self._events.refused(slot.worker_id, reason), slot)
        refusals = [slot.refusal for slot in self._slots.values() if slot.refusal is not None]
        if len(refusals) == len(self._slots) and not self._refused.done():
            self._refused.set_result(refusals[0])

    async def _tell(self, telling: Awaitable[None], slot: _Slot) -> None:
        try:
            await telling
        except Exception:
            # Of a lost worker the leases will run out: later, but surely. The slot must live on.
            logger.exception("the start or the end of worker %s could not be noted at once", slot.worker_id)

    def _new_worker_id(self, number: int) -> str:
        return f"{self._node}-w{number}-{secrets.token_hex(3)}"


def node_name(data_dir: Path) -> str:
    """A short random name for this machine, the same at every start on one data folder."""
    file = data_dir / "node-id"
    with contextlib.suppress(FileNotFoundError):
        if name := file.read_text().strip():
            return name
    name = f"n{secrets.token_hex(4)}"
    file.write_text(name + "\n")
    return name


def _signal(process: "asyncio.subprocess.Process | None", number: signal.Signals) -> None:
    if process and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def cause_of(exit_code: int) -> str:
    """The end of a process in words."""
    if exit_code == EXIT_DEVICE_FAILED:
        return "its device failed"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-exit_code).name}"
    return f"signal {-exit_code}"
