"""Workers as child processes of the gateway."""

import asyncio
import contextlib
import logging
import secrets
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux_endpoint.fleet.protocol import WorkerProcess

logger = logging.getLogger(__name__)

# 78 is EX_CONFIG of sysexits.h: its model cannot be loaded; 2 is a wrong command line. The worker has said why in one
# line, and starting it again would not help.
REFUSALS: Final = frozenset({2, 78})
# As shells put it.
_EXIT_NOT_STARTED: Final = 127
WORKER_ID_VARIABLE: Final = "FLUX_ENDPOINT_WORKER_ID"
# A worker leaves within 2 s (worker/loop.py); the gateway itself needs some of the 5 s that both have.
LEAVE_S: Final = 2.5
# A worker that lived this long did not die of what killed the one before it.
_HEALTHY_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a slot stays empty after its worker died: doubled each time, seconds."""

    first_s: float = 0.5
    last_s: float = 30.0


@dataclass(slots=True)
class _Slot:
    number: int
    worker_id: str
    process: "asyncio.subprocess.Process | None" = None
    restarts: int = 0
    is_restarting: bool = False
    last_end: str = ""
    refusal: int | None = None


class LocalFleet:
    """Keeps a fixed number of worker processes alive on this machine. To be made inside a running event loop.

    The children live in sessions of their own, so that Ctrl-C in a terminal reaches the gateway alone, which then
    asks them to leave in order; each holds a pipe to the gateway and leaves by itself when that breaks.

    Args:
        command: starts one worker; it gets its id in the environment.
        environment: the whole environment of the children, secrets included: other users can read arguments.
        workers: how many.
        node: starts all worker ids, so that a successor knows which jobs its predecessor's workers held.
        on_worker_starts: awaited with the id of every worker before it is started, and with how the one before it in
            its place died; empty when it did not.
        on_worker_lost: awaited with the id of every worker that died.
        on_worker_refused: awaited with the id of every worker that will not be started again, and why.
        backoff: pause before a restart.
        leave_s: how long `stop` waits before it ends what has not left.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        workers: int,
        node: str,
        on_worker_starts: Callable[[str, str], Awaitable[object]],
        on_worker_lost: Callable[[str], Awaitable[object]],
        on_worker_refused: Callable[[str, str], Awaitable[object]],
        backoff: Backoff = Backoff(),
        leave_s: float = LEAVE_S,
    ) -> None:
        self._command = command
        self._environment = environment
        self._node = node
        self._on_worker_starts = on_worker_starts
        self._on_worker_lost = on_worker_lost
        self._on_worker_refused = on_worker_refused
        self._backoff = backoff
        self._leave_s = leave_s
        self._slots = [_Slot(number, self._new_worker_id(number)) for number in range(workers)]
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the workers; returns before they have loaded their models."""
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]

    async def wait_refused(self) -> int:
        """Wait until every worker has exited because it can never run with these settings; the first one's exit code.

        For ever when there are to be no workers.
        """
        return await asyncio.shield(self._refused)

    async def stop(self) -> None:
        """Ask all workers to leave, wait for them, end the rest. A second call does nothing."""
        self._stopping.set()
        for slot in self._slots:
            _signal(slot.process, signal.SIGTERM)
        keepers, self._keepers = self._keepers, []
        if keepers:
            await asyncio.wait(keepers, timeout=self._leave_s)
            for slot in self._slots:
                _signal(slot.process, signal.SIGKILL)
            await asyncio.gather(*keepers)

    async def restart(self, worker_id: str) -> None:
        """Ask one worker to leave; another takes its place. Does nothing for a worker of somebody else's."""
        for slot in self._slots:
            if slot.worker_id == worker_id:
                slot.is_restarting = True
                _signal(slot.process, signal.SIGTERM)

    async def replace(self, worker_id: str, why: str) -> None:
        """End one worker that hangs; another takes its place. Does nothing for a worker of somebody else's."""
        for slot in self._slots:
            if slot.worker_id == worker_id and slot.process and slot.process.returncode is None:
                logger.error("worker %s hangs and is ended: %s", worker_id, why)
                # It may be stopped, or deaf.
                _signal(slot.process, signal.SIGKILL)

    async def list(self) -> Sequence[WorkerProcess]:
        """The workers that should be running."""
        return [
            WorkerProcess(slot.worker_id, slot.process.pid if slot.process else None, slot.restarts)
            for slot in self._slots
        ]

    async def _keep(self, slot: _Slot) -> None:
        pause_s = self._backoff.first_s
        while not self._stopping.is_set():
            started_s = time.monotonic()
            exit_code = await self._run(slot)
            if self._stopping.is_set():
                return
            if exit_code in REFUSALS:
                await self._note_refusal(slot, exit_code)
                return
            if slot.is_restarting:
                logger.info("worker %s left, another takes its place", slot.worker_id)
                pause_s = self._backoff.first_s
                slot.last_end = ""
            else:
                slot.last_end = _cause_of(exit_code)
                logger.error("worker %s died: %s", slot.worker_id, slot.last_end)
            slot.is_restarting = False
            await self._tell(self._on_worker_lost, slot.worker_id)
            if time.monotonic() - started_s > _HEALTHY_AFTER_S:
                pause_s = self._backoff.first_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
                return
            pause_s = min(self._backoff.last_s, 2 * pause_s)
            slot.restarts += 1
            slot.worker_id = self._new_worker_id(slot.number)

    async def _run(self, slot: _Slot) -> int:
        before = f"the worker before it died: {slot.last_end}" if slot.last_end else ""
        await self._tell(self._on_worker_starts, slot.worker_id, before)
        try:
            process = slot.process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**self._environment, WORKER_ID_VARIABLE: slot.worker_id},
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            # Out of processes or memory: that may pass.
            logger.error("worker %s cannot be started: %s", slot.worker_id, error)
            return _EXIT_NOT_STARTED
        if self._stopping.is_set():
            # `stop` came while the process was being made, and did not see it.
            _signal(process, signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            slot.process = None
            if process.stdin:
                process.stdin.close()

    async def _note_refusal(self, slot: _Slot, exit_code: int) -> None:
        slot.refusal = exit_code
        reason = f"it ended with exit code {exit_code} and is not started again: its log says why"
        await self._tell(self._on_worker_refused, slot.worker_id, reason)
        refusals = [slot.refusal for slot in self._slots if slot.refusal is not None]
        if len(refusals) == len(self._slots) and not self._refused.done():
            self._refused.set_result(refusals[0])

    async def _tell(self, listener: Callable[..., Awaitable[object]], worker_id: str, *news: str) -> None:
        try:
            await listener(worker_id, *news)
        except Exception:
            # Of a lost worker the leases will run out: later, but surely. The slot must live on.
            logger.exception("the start or the end of worker %s could not be noted at once", worker_id)

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


def _cause_of(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-exit_code).name}"
    return f"signal {-exit_code}"
