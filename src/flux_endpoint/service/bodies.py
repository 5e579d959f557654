"""Has bodies read. Small ones on the spot; big ones in a process of their own.

A body of 20 MB can take seconds to be taken apart and checked, and Python does nothing else in the meantime, whatever
the number of threads. What comes back from that process must be small, or text that nobody takes apart again
(`RawJson`).
"""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from anyio import BrokenWorkerProcess, fail_after, to_process

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.raw_json import BIG_CHARS

Result = TypeVar("Result")

# Each takes half a GB for the worst of bodies; the others wait.
_AT_ONCE: Final = 2
# Of processor time: a machine that does other things first is no fault of the body.
_MAX_S: Final = 60.0
# By the clock, however busy the machine is.
_PATIENCE_S: Final = 600.0
_LOW_PRIORITY: Final = 10


class Bodies:
    """Reads bodies with the readers that dialects bring."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read(self, data: bytes, reader: Callable[..., Result], *arguments: Any) -> Result:
        """What a reader makes of a body.

        Args:
            data: the body.
            reader: a function of some module, called with the body and the rest; it and its arguments must be able to
                travel to another process, and what it returns back.
            arguments: for the reader.

        Raises:
            InvalidRequest: the reader says so, or takes too much time or memory.
        """
        if len(data) <= BIG_CHARS:
            return reader(data, *arguments)
        async with self._places:
            done = await _read_apart(reader, data, *arguments)
        if isinstance(done, _Refused):
            raise InvalidRequest(done.reason)
        return done


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


async def _read_apart(reader: Callable[..., Result], *arguments: Any) -> "Result | _Refused":
    too_slow = InvalidRequest(f"Invalid request: to check the body took more than {_MAX_S:g} s")
    began_s = time.monotonic()
    try:
        with fail_after(_PATIENCE_S):
            return await to_process.run_sync(_apart, _MAX_S, reader, *arguments, cancellable=True)
    except TimeoutError:
        raise too_slow from None
    except BrokenWorkerProcess:
        # Ended by itself, or by the system.
        if time.monotonic() - began_s >= _MAX_S:
            raise too_slow from None
        raise InvalidRequest("Invalid request: the body took more memory to check than there is") from None


def _apart(max_s: float, reader: Callable[..., Result], *arguments: Any) -> "Result | _Refused":
    """Run in the other process, which ends itself after so much of the processor; an error travels as its text."""
    # Nothing here makes cycles, and to look for some takes most of the time. Requests that are small go first.
    gc.disable()
    os.setpriority(os.PRIO_PROCESS, 0, _LOW_PRIORITY)
    signal.setitimer(signal.ITIMER_PROF, max_s)
    try:
        return reader(*arguments)
    except InvalidRequest as error:
        return _Refused(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
