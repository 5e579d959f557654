"""What a Ray actor does here: it keeps one ordinary worker process alive. Nothing in this file needs Ray."""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flux_endpoint.fleet.local import HEALTHY_AFTER_S, LEAVE_S, REFUSALS, WORKER_ID_VARIABLE, Backoff, cause_of

logger = logging.getLogger(__name__)

_PREFIX: Final = "FLUX_ENDPOINT_"
# Who holds no GPU sees all of them unless they are hidden; and it holds one CPU.
_ON_A_CPU: Final = {"CUDA_VISIBLE_DEVICES": "", "FLUX_ENDPOINT_THREADS": "1"}
_BACKOFF: Final = Backoff()


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How a worker is started, on whichever machine.

    Attributes:
        arguments: after the machine's own Python; it gets its id in the environment.
        environment: its settings, secrets included; the rest of its environment is that of the machine it runs on.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def digest(self) -> str:
        """Equal for equal specs. It is made of secrets too: show it to nobody."""
        return hashlib.sha256(json.dumps([list(self.arguments), dict(self.environment)]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a host says of its worker.

    Attributes:
        host: drawn when the host came to life: after Ray has restarted it, another one.
        digest: of the spec that it starts workers by.
        worker_id: of the worker that runs or is about to.
        pid: of its process; None while it waits to be restarted.
        restarts: how often this host has started another worker.
        last_end: how the worker before it died; empty when none did.
        refusal: the exit code of a worker that said it can never run with this spec; None when it did not.
        has_left: it was told to leave and starts no more workers: whoever told it was ended before he ended it.
    """

    host: str
    digest: str
    worker_id: str
    pid: int | None
    restarts: int
    last_end: str
    refusal: int | None
    has_left: bool


class WorkerHost:
    """Keeps one worker process alive on the machine where Ray has put it.

    Ray never makes an actor again whose `__init__` has failed: so nothing happens there but the start of a thread. A
    worker that dies is started again after a pause, here; Ray restarts the host when its machine is lost.

    The worker holds a pipe to this process and leaves when it breaks, however this process ends. It has no session of
    its own: Ray ends what is left of a dead actor's.

    Args:
        name: starts the ids of its workers.
        spec: how they are started.
        has_gpu: whether Ray has given this actor one; if not, the worker sees none, and not all of them.
        backoff: pause before a restart.
    """

    def __init__(self, name: str, spec: WorkerSpec, has_gpu: bool, backoff: Backoff = _BACKOFF) -> None:
        self._name, self._spec, self._has_gpu, self._backoff = name, spec, has_gpu, backoff
        self._host = secrets.token_hex(4)
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker_id = self._new_worker_id()
        self._restarts = 0
        self._last_end = ""
        self._refusal: int | None = None
        self._is_restarting = False
        self._keeper = threading.Thread(target=self._keep, name="worker-host", daemon=True)
        self._keeper.start()

    def report(self) -> HostReport:
        """How its worker is."""
        process = self._process
        return HostReport(
            self._host,
            self._spec.digest,
            self._worker_id,
            process.pid if process else None,
            self._restarts,
            self._last_end,
            self._refusal,
            self._leaving.is_set(),
        )

    def restart(self, worker_id: str) -> None:
        """Ask the worker to leave, if it is still the one that is meant; another takes its place."""
        if worker_id == self._worker_id:
            self._is_restarting = True
            self._signal(signal.SIGTERM)

    def leave(self, within_s: float = LEAVE_S) -> None:
        """Ask the worker to give its jobs back and leave; end it if it does not. No other takes its place."""
        self._leaving.set()
        self._signal(signal.SIGTERM)
        self._keeper.join(within_s)
        self._signal(signal.SIGKILL)
        self._keeper.join()

    def _keep(self) -> None:
        pause_s = self._backoff.first_s
        while not self._leaving.is_set():
            started_s = time.monotonic()
            exit_code = self._run()
            self._last_end = "" if self._is_restarting else cause_of(exit_code)
            self._refusal = exit_code if exit_code in REFUSALS else None
            if self._is_restarting or time.monotonic() - started_s > HEALTHY_AFTER_S:
                pause_s = self._backoff.first_s
            self._is_restarting = False
            if not self._leaving.is_set():
                logger.error("worker %s left: %s", self._worker_id, self._last_end or "asked to")
            if self._leaving.wait(pause_s):
                return
            pause_s = min(self._backoff.last_s, 2 * pause_s)
            self._restarts += 1
            self._worker_id = self._new_worker_id()

    def _run(self) -> int:
        """The exit code of a worker, when it has ended."""
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(_PREFIX)}
        hidden = {} if self._has_gpu else _ON_A_CPU
        environment = inherited | hidden | dict(self._spec.environment) | {WORKER_ID_VARIABLE: self._worker_id}
        try:
            with subprocess.Popen(
                [sys.executable, *self._spec.arguments], env=environment, stdin=subprocess.PIPE
            ) as process:
                self._process = process
                if self._leaving.is_set():
                    # `leave` came while the process was being made, and did not see it.
                    self._signal(signal.SIGTERM)
                return process.wait()
        except Exception as error:
            # Out of processes or memory, the program not there yet: that may pass.
            logger.error("worker %s cannot be started: %s", self._worker_id, error)
            return os.EX_OSERR
        finally:
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def _new_worker_id(self) -> str:
        return f"{self._name}-{secrets.token_hex(3)}"
