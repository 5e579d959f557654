"""Wake-ups inside one process: who sleeps until something changes, and who says that it did."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flux_endpoint.core.job import Job


class Channel(NamedTuple):
    """Something to wait for: the end of a job, work on an endpoint, a stop for a worker."""

    kind: str
    name: str


# What has happened, with the job it has happened to where that is known.
News = Mapping[Channel, Job | None]


@dataclass(eq=False, slots=True)
class Listener:
    """One sleeper. It hears every signal fired since it began to listen or since it last woke.

    Attributes:
        signals: say how long it may sleep without a look.
        ends_s: when its patience is over, by the time of the event loop.
        heard: set to wake the sleeper now or, if it is busy, as soon as it sleeps.
        job: as the latest signal that carried one had it.
    """

    signals: "Signals"
    ends_s: float
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    job: Job | None = None

    def hurry(self, seconds: float) -> None:
        """Let its patience be over in so many seconds, unless that is earlier anyhow."""
        self.ends_s = min(self.ends_s, asyncio.get_running_loop().time() + seconds)

    async def sleep(self, *, looks_at_end: bool = True) -> bool:
        """Sleep until it is worth looking again; False, without sleep, when the patience is over or all is draining.

        Args:
            looks_at_end: False for who asks again in any case, and begins with a look: then it need not end with one.
        """
        left_s = self.ends_s - asyncio.get_running_loop().time()
        if left_s <= 0 or self.signals.is_draining:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, self.signals.recheck_s)):
                await self.heard.wait()
            self.heard.clear()
            return True
        return looks_at_end or left_s > self.signals.recheck_s


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
        listener = Listener(self, asyncio.get_running_loop().time() + timeout_s)
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
                listener.job = job or listener.job
                listener.heard.set()

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
