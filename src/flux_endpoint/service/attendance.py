"""Whether a job that waits has anybody to wait for."""

from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.service.workforce import Workforce

NO_WORKER: Final = "no worker serves this endpoint"
# Clients poll in loops, and workers do not come and go within less.
_CACHE_MS: Final = 1_000


class Attendance:
    """Tells clients of jobs that wait for nobody; remembers for a second what it has found.

    Args:
        workforce: knows the workers.
        clock: ages what is remembered.
    """

    def __init__(self, workforce: Workforce, clock: Clock) -> None:
        self._workforce = workforce
        self._clock = clock
        # By endpoint: what was found, and when.
        self._found: dict[str, tuple[bool, int]] = {}

    async def notice(self, endpoint_id: str) -> str | None:
        """What whoever waits on an endpoint should know: `NO_WORKER`; None when there is a worker, or one starts."""
        now_ms = self._clock.monotonic_ms()
        is_served, found_ms = self._found.get(endpoint_id, (False, now_ms - _CACHE_MS))
        if now_ms - found_ms >= _CACHE_MS:
            is_served = await self._workforce.serves(endpoint_id)
            self._found[endpoint_id] = (is_served, now_ms)
        return None if is_served else NO_WORKER
