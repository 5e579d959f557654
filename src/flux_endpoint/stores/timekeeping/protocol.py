"""Who keeps the time of a gateway."""

from typing import Protocol


class Timekeeper(Protocol):
    """Sets the clock of a gateway by the one that all gateways share."""

    async def keep(self) -> int:
        """Set the clock; called every few seconds.

        When the shared clock was itself set forward or back since, the times of all that lives move with it, once,
        whichever gateway notices first: leases, time to live, waits of webhooks, sightings of workers. So everything
        has as long to live as before.

        Returns:
            By how many milliseconds those times moved since the last call: nearly always 0, below 0 when back.

        Raises:
            StoreUnavailable: the database did not answer; nothing changed.
        """
        ...
