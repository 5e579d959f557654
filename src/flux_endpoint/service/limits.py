"""How much may be asked: how often by one key, and how much may wait."""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flux_endpoint.core.account import SUBMITTING, ApiKey, Operation
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import TooManyRequests
from flux_endpoint.core.limits import DEFAULT_RULES, RateRule
from flux_endpoint.stores.activity.protocol import ActivityStore
from flux_endpoint.stores.rates.protocol import RateStore

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


# A gateway lets in so small a part of a limit (2 %) before it tells the others: see decision 0038.
_PARTS_PER_LIMIT: Final = 50
_UNLIMITED: Final = RateRule()


class Window:
    """The requests admitted in the last `length_ms`; those of this gateway exactly, and no longer than there were any.

    Times are those of `Clock.monotonic_ms`: a clock that is set must neither open the window nor lock a key out.

    Attributes:
        length_ms: how long a request counts.
        times_ms: of those that were let in here.
        untold: how many of these the other gateways do not know; -1 when they were told of the next one.
        elsewhere: when, and how many: what the other gateways had let in when they were last heard of.
        asking: held while they are asked.
    """

    __slots__ = ("asking", "elsewhere", "length_ms", "times_ms", "untold")

    def __init__(self, length_ms: int) -> None:
        self.length_ms = length_ms
        self.times_ms: deque[int] = deque()
        self.untold = 0
        self.elsewhere: list[tuple[int, int]] = []
        self.asking = asyncio.Lock()

    def require_room(self, limit: int, now_ms: int, what: str) -> None:
        """Pass if one more fits now; whoever passes is counted by the caller once nothing else speaks against it.

        Raises:
            TooManyRequests: `limit` of them were counted.
        """
        times_ms = self.times_ms
        while times_ms and times_ms[0] <= now_ms - self.length_ms:
            times_ms.popleft()
        if len(times_ms) < limit and not self.elsewhere:
            return
        counted_ms = self._counted_ms(now_ms)
        if len(counted_ms) >= limit:
            wait_s = math.ceil((counted_ms[len(counted_ms) - limit] + self.length_ms - now_ms) / 1_000)
            said = f"rate limit: at most {limit} {what} with one API key; try again in {wait_s} s"
            raise TooManyRequests(said, wait_s)

    def is_full(self, limit: int, now_ms: int) -> bool:
        """Whether one more would be refused now."""
        return len(self._counted_ms(now_ms)) >= limit

    def _counted_ms(self, now_ms: int) -> list[int]:
        """The times of all requests that count now, the oldest first; older ones are forgotten."""
        since_ms = now_ms - self.length_ms
        while self.times_ms and self.times_ms[0] <= since_ms:
            self.times_ms.popleft()
        self.elsewhere = [(time_ms, requests) for time_ms, requests in self.elsewhere if time_ms > since_ms]
        elsewhere_ms: Iterable[int] = (time_ms for time_ms, requests in self.elsewhere for _ in range(requests))
        return sorted([*self.times_ms, *elsewhere_ms])

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing was counted for a whole window."""
        latest_ms = [*list(self.times_ms)[-1:], *(time_ms for time_ms, _ in self.elsewhere)]
        return max(latest_ms, default=now_ms - self.length_ms) <= now_ms - self.length_ms


class SharedRates:
    """Keeps the windows of several gateways together, at the cost of one exchange for each 2 % of a limit.

    Args:
        store: carries what they tell each other.
        clock: moves the windows.
    """

    def __init__(self, store: RateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # Of this process: what its predecessor let in counts as that of another.
        self._gateway = secrets.token_hex(4)

    async def agree(self, counter: str, window: Window, limit: int) -> None:
        """Have the others know of the next request, and learn of theirs, unless few here are unknown to them.

        The caller counts it without waiting for anything in between: then what two gateways let in at the same moment
        is more than the limit by no more than what each may leave untold.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        untold_at_most = limit // _PARTS_PER_LIMIT
        if window.untold < untold_at_most:
            return
        async with window.asking:
            if window.untold < untold_at_most:
                return
            now_ms = self._clock.monotonic_ms()
            if window.is_full(limit, now_ms):
                # What was counted can only grow old: nobody has to be asked to refuse.
                return
            here = len(window.times_ms)
            untold = min(window.untold, here)
            answer = await self._store.exchange(
                counter, self._gateway, here=here, untold=untold, limit=limit, window_ms=window.length_ms
            )
            window.untold = -int(answer.has_room)
            now_ms = self._clock.monotonic_ms()
            window.elsewhere = [(now_ms - each.age_ms, each.requests) for each in answer.elsewhere]


class _Gate:
    """One operation of one key on one endpoint."""

    __slots__ = ("inside", "window")

    def __init__(self) -> None:
        self.inside = 0
        self.window = Window(_WINDOW_MS)

    def leave(self) -> None:
        self.inside -= 1


class RateLimiter:
    """Admits requests or says when to come again. Only from the event loop's thread.

    Args:
        clock: moves the windows.
        rules: limits by operation; one that is not named has none.
        shared: with other gateways; None when there are none, and `agree` need not be called.
    """

    def __init__(
        self,
        clock: Clock,
        rules: Mapping[Operation, RateRule] = DEFAULT_RULES,
        shared: SharedRates | None = None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._shared = shared
        self._gates: dict[tuple[str, str | None, Operation], _Gate] = {}
        # By key: the jobs it asked for, for its own limit.
        self._minutes: dict[str, Window] = {}
        self._tidy_ms = 0

    async def agree(
        self, key: ApiKey, endpoint_id: str | None, operation: Operation, *, may_repeat: bool = False
    ) -> None:
        """Come to terms with the other gateways about a request for which `enter` is called right after this.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        if self._shared is None:
            return
        rule = self._rules.get(operation, _UNLIMITED)
        if operation in SUBMITTING and not may_repeat:
            await self.agree_on_job(key)
        if rule.per_window is not None:
            place = (key.id, endpoint_id, operation)
            gate = self._gates.get(place) or self._gates.setdefault(place, _Gate())
            counter = f"{key.id} {operation} {endpoint_id or ''}"
            await self._shared.agree(counter, gate.window, rule.per_window)

    async def agree_on_job(self, key: ApiKey) -> None:
        """Come to terms about the job of a request for which `ask_for_job` is called right after this."""
        if self._shared is not None and key.limits.requests_per_minute is not None:
            minute = self._minutes.setdefault(key.id, Window(_MINUTE_MS))
            await self._shared.agree(f"{key.id} jobs", minute, key.limits.requests_per_minute)

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
            gate.window.untold += 1
        gate.inside += 1
        return gate.leave

    def ask_for_job(self, key: ApiKey) -> None:
        """Count a job against the key's own limit.

        Raises:
            TooManyRequests: it has asked for as many as it may in a minute.
        """
        if key.limits.requests_per_minute is not None:
            now_ms = self._clock.monotonic_ms()
            minute = self._minutes.setdefault(key.id, Window(_MINUTE_MS))
            minute.require_room(key.limits.requests_per_minute, now_ms, "jobs in 60 s")
            minute.times_ms.append(now_ms)
            minute.untold += 1

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
