"""Time as a value that is handed in, so that tests can move it."""

import time
from collections.abc import Callable
from typing import Final, Protocol

_NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """Tells the time of day, which all gateways on one database share, and how much time passes in this process."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC. For what is kept or shown; it may be set forward or back."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment, the same for as long as the process lives.

        For how long something is to last here: nobody can set it.
        """
        ...


class SystemClock:
    """A clock that is set by another and runs evenly in between, whatever happens to the machine's.

    Until `set` is called it tells what the machine's clock said when it was made, and the time since.

    Args:
        wall_ns: the machine's time of day, nanoseconds.
        monotonic_ns: what nobody can set, nanoseconds.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._ahead_ms = self.wall_ms() - self.monotonic_ms()

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self._ahead_ms + self._monotonic_ns() // _NS_PER_MS

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return self._monotonic_ns() // _NS_PER_MS

    def wall_ms(self) -> int:
        """What the machine's clock says, milliseconds since 1970-01-01 UTC."""
        return self._wall_ns() // _NS_PER_MS

    def set(self, now_ms: int, at_ms: int) -> None:
        """Tell from now on that it was `now_ms` when `monotonic_ms()` was `at_ms`."""
        self._ahead_ms = now_ms - at_ms


class ManualClock:
    """A clock that moves only when told to.

    Args:
        now_ms: where it starts, milliseconds since 1970-01-01 UTC.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """See `Clock.monotonic_ms`."""
        return self._monotonic_ms

    def advance(self, *, ms: int = 0, s: float = 0, days: float = 0) -> None:
        """Let time pass."""
        passed_ms = ms + round(s * 1_000) + round(days * 86_400_000)
        self._now_ms += passed_ms
        self._monotonic_ms += passed_ms

    def jump(self, *, s: float) -> None:
        """Set the time of day forward, or back, without any time passing."""
        self._now_ms += round(s * 1_000)
