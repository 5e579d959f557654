"""How much may be asked: how often by one key, counted in the memory of one gateway, and how much may wait."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from flux_endpoint.core.account import SUBMITTING, ApiKey, Operation
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import TooManyRequests
from flux_endpoint.core.limits import DEFAULT_RULES, RateRule
from flux_endpoint.stores.activity.protocol import ActivityStore

_WINDOW_MS: Final = 10_000
_MINUTE_MS: Final = 60_000
# A place frees when some request ends, and nobody knows when: soon, as a rule.
_RETRY_WHEN_FULL_S: Final = 1
# Many thousand jobs do not go away in less.
_RETRY_WHEN_QUEUE_IS_FULL_S: Final = 5
_COUNT_PERIOD_MS: Final = 1_000
_COUNT_PERIOD_WHEN_FULL_MS: Final = 100
# Counters that nobody used for a while are dropped this often.
_TIDY_PERIOD_MS: Final = 60_000


_UNLIMITED: Final = RateRule()


class _Window:
    """The times of the requests admitted in the last `length_ms`: exact, and no longer than there were requests.

    They are those of `Clock.monotonic_ms`: a clock that is set must neither open the window nor lock a key out.
    """

    __slots__ = ("_length_ms", "times_ms")

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self.times_ms: deque[int] = deque()

    def require_room(self, limit: int, now_ms: int, what: str) -> None:
        """Pass if one more fits now; whoever passes appends it to `times_ms` once nothing else speaks against it.

        Raises:
            TooManyRequests: `limit` of them were counted.
        """
        times_ms = self.times_ms
        while times_ms and times_ms[0] <= now_ms - self._length_ms:
            times_ms.popleft()
        if len(times_ms) >= limit:
            wait_s = math.ceil((times_ms[len(times_ms) - limit] + self._length_ms - now_ms) / 1_000)
            said = f"rate limit: at most {limit} {what} with one API key; try again in {wait_s} s"
            raise TooManyRequests(said, wait_s)

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing was counted for a whole window."""
        return not self.times_ms or self.times_ms[-1] <= now_ms - self._length_ms


class _Gate:
    """One operation of one key on one endpoint."""

    __slots__ = ("inside", "window")

    def __init__(self) -> None:
        self.inside = 0
        self.window = _Window(_WINDOW_MS)

    def leave(self) -> None:
        self.inside -= 1


class RateLimiter:
    """Admits requests or says when to come again. Only from the event loop's thread.

    Args:
        clock: moves the windows.
        rules: limits by operation; one that is not named has none.
    """

    def __init__(self, clock: Clock, rules: Mapping[Operation, RateRule] = DEFAULT_RULES) -> None:
        self._clock = clock
        self._rules = rules
        self._gates: dict[tuple[str, str | None, Operation], _Gate] = {}
        # By key: the jobs it asked for, for its own limit.
        self._minutes: dict[str, _Window] = {}
        self._tidy_ms = 0

    def enter(
        self, key: ApiKey, endpoint_id: str | None, operation: Operation, *, may_repeat: bool = False
    ) -> Callable[[], None]:
        """Count one request, and the job it asks for unless it may be the repetition of another: see `ask_for_job`.

        Returns:
            What to call, once, when the request is over.

        Raises:
            TooManyRequests: a limit is reached; then nothing was counted.
        """
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._tidy_ms >= _TIDY_PERIOD_MS:
            self._tidy(now_ms)
        rule = self._rules.get(operation, _UNLIMITED)
        place = (key.id, endpoint_id, operation)
        gate = self._gates.get(place) or self._gates.setdefault(place, _Gate())
        if rule.concurrent is not None and gate.inside >= rule.concurrent:
            raise TooManyRequests(
                f"rate limit: {rule.concurrent} /{operation} requests of this API key are open at once, which is the "
                f"limit; try again in {_RETRY_WHEN_FULL_S} s",
                _RETRY_WHEN_FULL_S,
            )
        if rule.per_window is not None:
            gate.window.require_room(rule.per_window, now_ms, f"/{operation} requests in 10 s")
        if key.limits.requests_per_minute is not None and operation in SUBMITTING and not may_repeat:
            self.ask_for_job(key)
        if rule.per_window is not None:
            gate.window.times_ms.append(now_ms)
        gate.inside += 1
        return gate.leave

    def ask_for_job(self, key: ApiKey) -> None:
        """Count a job against the key's own limit.

        Raises:
            TooManyRequests: it has asked for as many as it may in a minute.
        """
        if key.limits.requests_per_minute is not None:
            now_ms = self._clock.monotonic_ms()
            minute = self._minutes.setdefault(key.id, _Window(_MINUTE_MS))
            minute.require_room(key.limits.requests_per_minute, now_ms, "jobs in 60 s")
            minute.times_ms.append(now_ms)

    def _tidy(self, now_ms: int) -> None:
        self._tidy_ms = now_ms
        self._gates = {
            place: gate for place, gate in self._gates.items() if gate.inside or not gate.window.is_idle(now_ms)
        }
        self._minutes = {key_id: minute for key_id, minute in self._minutes.items() if not minute.is_idle(now_ms)}


class QueueCap:
    """Refuses jobs of an endpoint whose queue is full.

    The queue is counted once a second, and the jobs let in since are added: the cap is exceeded by no more than what
    other gateways let in within a second.

    Args:
        store: knows the queue.
        clock: tells when to count again.
        max_queued: how many jobs of one endpoint may wait.
    """

    def __init__(self, store: ActivityStore, clock: Clock, max_queued: int) -> None:
        self._store = store
        self._clock = clock
        self._max_queued = max_queued
        # By endpoint: how many wait, and when they were counted.
        self._queues: dict[str, tuple[int, int]] = {}

    async def require_room(self, endpoint_id: str) -> None:
        """Let one more job in.

        Raises:
            TooManyRequests: the queue is full.
        """
        now_ms = self._clock.monotonic_ms()
        waiting, counted_ms = self._queues.get(endpoint_id, (0, -_COUNT_PERIOD_MS))
        period_ms = _COUNT_PERIOD_MS if waiting < self._max_queued else _COUNT_PERIOD_WHEN_FULL_MS
        if now_ms - counted_ms >= period_ms:
            waiting, counted_ms = (await self._store.load(endpoint_id)).waiting, now_ms
        if waiting >= self._max_queued:
            self._queues[endpoint_id] = (waiting, counted_ms)
            raise TooManyRequests(
                f"the queue of this endpoint is full: {waiting} jobs wait, and {self._max_queued} may; "
                f"try again in {_RETRY_WHEN_QUEUE_IS_FULL_S} s",
                _RETRY_WHEN_QUEUE_IS_FULL_S,
            )
        self._queues[endpoint_id] = (waiting + 1, counted_ms)
