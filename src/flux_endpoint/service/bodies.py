"""Has bodies read. Small ones on the spot; big ones in a process of their own.

A body of 20 MB can take seconds to be taken apart and checked, and Python does nothing else in the meantime, whatever
the number of threads. What comes back from that process must be small, or text that nobody takes apart again
(`RawJson`).
"""

import asyncio
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from anyio import BrokenWorkerProcess, fail_after, to_process

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.raw_json import BIG_CHARS

Result = TypeVar("Result")

# Each takes half a GB for the worst of bodies; the others wait.
_AT_ONCE: Final = 2
_MAX_S: Final = 60.0
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
        try:
            async with self._places:
                with fail_after(_MAX_S):
                    done = await to_process.run_sync(_apart, reader, data, *arguments, cancellable=True)
        except TimeoutError:
            raise InvalidRequest(f"Invalid request: to check the body took more than {_MAX_S:g} s") from None
        except BrokenWorkerProcess:
            raise InvalidRequest("Invalid request: the body took more memory to check than there is") from None
        if isinstance(done, _Refused):
            raise InvalidRequest(done.reason)
        return done


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


def _apart(reader: Callable[..., Result], *arguments: Any) -> "Result | _Refused":
    """Run in the other process; an error travels as its text."""
    # Nothing here makes cycles, and to look for some takes most of the time. Requests that are small go first.
    gc.disable()
    os.setpriority(os.PRIO_PROCESS, 0, _LOW_PRIORITY)
    try:
        return reader(*arguments)
    except InvalidRequest as error:
        return _Refused(str(error))
