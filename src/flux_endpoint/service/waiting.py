"""Waiting for one of two things."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def happens(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether an event comes in time."""
    try:
        async with asyncio.timeout(max(0.0, timeout_s)):
            return await event.wait()
    except TimeoutError:
        return False


async def unless(event: asyncio.Event, coroutine: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of the coroutine; None when the event came first."""
    task, watcher = asyncio.ensure_future(coroutine), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watcher.cancel()
