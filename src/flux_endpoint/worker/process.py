"""A worker as a process: load, work, obey signals, go."""

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from flux_endpoint.core.errors import DeviceFailed, FluxEndpointError
from flux_endpoint.core.tracing import Tracer
from flux_endpoint.core.worker import EXIT_DEVICE_FAILED
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.worker.calibration import Calibration
from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import HttpConnection
from flux_endpoint.worker.loop import Worker
from flux_endpoint.worker.runner import EngineThread
from flux_endpoint.worker.tracing import JobTrace
from flux_endpoint.worker.unload import memory_of_all, unload_when_asked, unload_when_idle

logger = logging.getLogger(__name__)

_LOADED_S: Final = time.monotonic()
_TELL_S: Final = 5.0
_TICK_S: Final = 0.02
# From the start of Python to this module: half a second, minutes from a cold disk.
_SLOWEST_IMPORT_S: Final = 600


def new_worker_id() -> str:
    """A name for a worker that was given none."""
    return f"w-{secrets.token_hex(4)}"


def load_engines(engines: Mapping[str, Engine]) -> None:
    """Load every model, and say what is loaded.

    Raises:
        CheckpointError: the files of one are wrong, or too large for this machine.
    """
    notices: dict[str, str] = {}
    for endpoint_id, engine in engines.items():
        started_s = time.monotonic()
        engine.load()
        info = engine.info
        logger.info("%s: model %s on %s, %.1f s", endpoint_id, info.name, info.device, time.monotonic() - started_s)
        if info.notice:
            notices[info.name] = info.notice
    logger.info("fingerprint %s", fingerprint_of_all(engines))
    for name, notice in notices.items():
        logger.info("%s: %s", name, notice)


def fingerprint_of_all(engines: Mapping[str, Engine]) -> str:
    """The kind of worker that these loaded engines make: one fingerprint, but where some of them have no model."""
    return "; ".join(dict.fromkeys(engine.info.fingerprint for engine in engines.values()))


def tell_unwell(gateway_url: str, token: str, worker_id: str, endpoint_ids: Collection[str], reason: str) -> None:
    """Let the gateway say why this worker will never work; tries for some seconds, since it may be starting, too."""

    async def tell() -> None:
        async with HttpConnection(gateway_url, token) as connection:
            await Gateway(connection, endpoint_ids, worker_id, "unknown").unwell(reason)

    with suppress(TimeoutError, FluxEndpointError):
        asyncio.run(asyncio.wait_for(tell(), _TELL_S))


def run_worker(
    gateway_url: str,
    token: str,
    worker_id: str,
    engines: Mapping[str, Engine],
    jobs_at_once: int,
    idle_unload_s: float = 0,
    tracer: Tracer | None = None,
    kept_loras: KeptLoras | None = None,
) -> NoReturn:
    """Work on loaded engines until SIGTERM or SIGINT, give the running jobs back, and end the process.

    It also ends, with `EXIT_DEVICE_FAILED`, when nothing can be drawn any more.

    Args:
        gateway_url: where jobs come from.
        token: the worker token.
        worker_id: its name.
        engines: by endpoint id.
        jobs_at_once: how many pictures are drawn in turn.
        idle_unload_s: seconds without a picture after which an engine is unloaded; 0 for never.
        tracer: who is told of jobs; None where nobody traces.
        kept_loras: where LoRAs that were fetched for jobs are; None for nowhere.

    Raises:
        Unauthenticated: the worker token is wrong.
        NotFound: the gateway does not serve these endpoints.
    """
    exit_code = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_work(gateway_url, token, worker_id, engines, jobs_at_once, idle_unload_s, tracer, kept_loras))
        except DeviceFailed as error:
            logger.error("this worker ends: %s", error)
            exit_code = EXIT_DEVICE_FAILED
    if tracer is not None:
        tracer.close()
    # Python would first wait for the step that still runs, minutes with real weights on a CPU, and then take PyTorch
    # apart, seconds. The jobs have been given back, and the system frees what a process held.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(exit_code)


def age_ms() -> int:
    """How long ago this process started, where the system tells (Linux); elsewhere, since this module was loaded."""
    known_s = time.monotonic() - _LOADED_S
    with suppress(OSError, ValueError, IndexError, AttributeError):
        # Field 22 of proc(5), in ticks since the machine started. The name before it may hold spaces.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        real_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        # A container may have a clock of its own.
        if known_s <= real_s + _TICK_S and real_s < known_s + _SLOWEST_IMPORT_S:
            known_s = real_s
    return round(known_s * 1_000)


def leave_with_parent() -> None:
    """Send this process a SIGTERM when its standard input ends, which a parent's death causes however it died."""
    threading.Thread(target=_leave_at_end_of_input, name="parent-watch", daemon=True).start()


async def _work(
    gateway_url: str,
    token: str,
    worker_id: str,
    engines: Mapping[str, Engine],
    jobs_at_once: int,
    idle_unload_s: float,
    tracer: Tracer | None,
    kept_loras: KeptLoras | None,
) -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, leave.set)
    first, fingerprint = next(iter(engines.values())), fingerprint_of_all(engines)
    async with HttpConnection(gateway_url, token) as connection:
        logger.info("worker %s takes jobs from %s", worker_id, gateway_url)
        thread, unloads = EngineThread(jobs_at_once), asyncio.Event()
        calibration = Calibration(first, thread)
        gateway = Gateway(
            connection,
            list(engines),
            worker_id,
            first.info.device,
            age_ms=age_ms,
            fingerprint=fingerprint,
            memory=partial(memory_of_all, engines),
            step_us=lambda: calibration.step_us,
            on_unload=unloads.set,
        )
        beside = [calibration.run(), unload_when_asked(engines, thread, unloads)]
        if idle_unload_s:
            beside.append(unload_when_idle(engines, thread, idle_unload_s))
        trace = None if tracer is None else partial(JobTrace, tracer, worker_id)
        await Worker(gateway, engines, thread, trace=trace, kept_loras=kept_loras).run(leave, beside)
    logger.info("worker %s left", worker_id)


def _leave_at_end_of_input() -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
