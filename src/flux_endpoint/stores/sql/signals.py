"""Wake-ups inside one process: who sleeps until something changes, and who says that it did."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
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

    Args:
        signals: say how long it may sleep without a look.
        timeout_s: its patience from now.

    Attributes:
        job: as the latest signal that carried one had it.
    """

    def __init__(self, signals: "Signals", timeout_s: float) -> None:
        self._signals = signals
        self._ends_s = asyncio.get_running_loop().time() + timeout_s
        self._heard = asyncio.Event()
        self.job: Job | None = None

    def hear(self, job: Job | None = None) -> None:
        """Wake the sleeper now or, if it is busy, as soon as it sleeps."""
        self.job = job or self.job
        self._heard.set()

    def hurry(self, seconds: float) -> None:
        """Let its patience be over in so many seconds, unless that is earlier anyhow."""
        self._ends_s = min(self._ends_s, asyncio.get_running_loop().time() + seconds)

    async def sleep(self) -> bool:
        """Sleep until it is worth looking again; False, without sleep, when the patience is over or all is draining."""
        left_s = self._ends_s - asyncio.get_running_loop().time()
        if left_s <= 0 or self._signals.is_draining:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, self._signals.recheck_s)):
                await self._heard.wait()
            self._heard.clear()
        return True


class Signals:
    """Channels exist only while somebody listens, so ids of jobs long gone take no memory. Bound to one event loop.

    Attributes:
        recheck_s: how long a sleeper may trust them before it must look again: other processes may fire none here.
        is_draining: whether nobody is to fall asleep any more.
    """

    def __init__(self, recheck_s: float) -> None:
        self.recheck_s = recheck_s
        self.is_draining = False
        self._listeners: dict[Channel, set[Listener]] = {}

    @contextlib.contextmanager
    def listen(self, *channels: Channel, timeout_s: float) -> Iterator[Listener]:
        """Hear the channels until the block ends. Look at the database inside the block: nothing is missed between."""
        listener = Listener(self, timeout_s)
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
        """Wake everybody who sleeps to look once more, and from now on let nobody fall asleep."""
        self.is_draining = True
        self.fire_all()

    def fire_all(self) -> None:
        """Wake everybody to look again."""
        self.fire(dict.fromkeys(self._listeners))

    def __len__(self) -> int:
        """Number of channels somebody listens to."""
        return len(self._listeners)
