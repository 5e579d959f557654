"""Giving memory back while a worker waits for jobs: when it was asked to, or has had nothing to do for long."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NoReturn

from flux_endpoint.engine.protocol import Engine
from flux_endpoint.worker.runner import EngineThread

logger = logging.getLogger(__name__)

# How often a worker looks whether it has been idle for long enough.
_LOOK_S = 5.0


def memory_of_all(engines: Mapping[str, Engine]) -> str:
    """How these engines keep their models, each way once; one line."""
    return "; ".join(dict.fromkeys(engine.info.memory for engine in engines.values() if engine.info.memory))


async def unload(engines: Mapping[str, Engine], thread: EngineThread, idle_s: float = 0) -> None:
    """Let engines that have drawn nothing for so long free their weights until their next picture."""
    for engine in engines.values():
        try:
            await thread.call(partial(engine.release, idle_s))
        except Exception:
            logger.exception("model %s could not be unloaded", engine.info.name)


async def unload_when_asked(engines: Mapping[str, Engine], thread: EngineThread, asked: asyncio.Event) -> NoReturn:
    """Unload each time `asked` is set, apart from who sets it: a picture may keep this waiting for long."""
    while True:
        await asked.wait()
        asked.clear()
        await unload(engines, thread)


async def unload_when_idle(
    engines: Mapping[str, Engine],
    thread: EngineThread,
    idle_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Unload, for ever, engines that have drawn nothing for `idle_s` seconds."""
    while True:
        await sleep(min(idle_s, _LOOK_S))
        await unload(engines, thread, idle_s)
