"""Wake-ups inside one process: who sleeps until something changes, and who says that it did."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from flux_endpoint.core.job import Job


class Channel(NamedTuple):
    """Something to wait for: the end of a job, work on an endpoint, a stop for a worker."""

    kind: str
    name: str


# What has happened, with the job it has happened to where that is known.
News = Mapping[Channel, Job | None]


class Listener:
    """One sleeper. It hears every signal fired since it began to listen or since it last woke.

    Attributes:
        is_dismissed: it was woken for good.
        job: as the latest signal that carried one had it.
    """

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self.is_dismissed = False
        self.job: Job | None = None

    def dismiss(self) -> None:
        """Wake the sleeper for good: it looks once more and goes."""
        self.is_dismissed = True
        self._heard.set()

    def hear(self, job: Job | None = None) -> None:
        """Wake the sleeper now or, if it is busy, as soon as it sleeps."""
        self.job = job or self.job
        self._heard.set()

    async def sleep(self, timeout_s: float) -> None:
        """Return at the next signal, or after `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()


class Signals:
    """Channels exist only while somebody listens, so ids of jobs long gone take no memory. Bound to one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[Channel, set[Listener]] = {}
        self._is_draining = False

    @contextmanager
    def listen(self, channels: Iterable[Channel]) -> Iterator[Listener]:
        """Hear the channels until the block ends. Look at the database inside the block: nothing is missed between."""
        listener = Listener()
        listener.is_dismissed = self._is_draining
        wanted = frozenset(channels)
        for channel in wanted:
            self._listeners.setdefault(channel, set()).add(listener)
        try:
            yield listener
        finally:
            for channel in wanted:
                listeners = self._listeners[channel]
                listeners.discard(listener)
                if not listeners:
                    del self._listeners[channel]

    def fire(self, news: News) -> None:
        """Wake everybody who listens to one of the channels. Only from the event loop's thread."""
        for channel, job in news.items():
            for listener in self._listeners.get(channel, ()):
                listener.hear(job)

    def drain(self) -> None:
        """Dismiss everybody who sleeps, and from now on let nobody fall asleep."""
        self._is_draining = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.dismiss()

    @property
    def is_draining(self) -> bool:
        """Whether nobody is to fall asleep any more."""
        return self._is_draining

    def fire_all(self) -> None:
        """Wake everybody: the store is closing."""
        self.fire(dict.fromkeys(self._listeners))

    def __len__(self) -> int:
        """Number of channels somebody listens to."""
        return len(self._listeners)


class Deadline:
    """The rest of a caller's patience, slept in slices.

    Args:
        timeout_s: patience from now.
        recheck_s: longest slice: another process on the same database fires no signal here.
    """

    def __init__(self, timeout_s: float, recheck_s: float) -> None:
        self._recheck_s = recheck_s
        self._ends_s = asyncio.get_running_loop().time() + timeout_s

    async def sleep(self, listener: Listener) -> bool:
        """Sleep until it is worth looking again; False, without sleep, once the patience is over."""
        left_s = self._ends_s - asyncio.get_running_loop().time()
        if left_s <= 0 or listener.is_dismissed:
            return False
        await listener.sleep(min(left_s, self._recheck_s))
        return True
