"""What was charged, as a sum that only grows."""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from flux_endpoint.core.account import UsageSum
from flux_endpoint.core.periods import MS_PER_HOUR
from flux_endpoint.stores.accounts.protocol import AccountStore


class SpendSum:
    """Adds up what was charged since it was first read, by endpoint.

    The database keeps sums by the hour. Those of hours that are over are remembered here, so that each look reads two
    or three of them, however long the gateway has run.

    Args:
        accounts: tells of charges.
        endpoint_ids: what is counted.
    """

    def __init__(self, accounts: AccountStore, endpoint_ids: Collection[str]) -> None:
        self._accounts = accounts
        # What was told last, and what of it was booked before `_open_ms`.
        self._told = self._closed = dict.fromkeys(endpoint_ids, Decimal(0))
        # The first hour in which something may still be booked; None when that is not known.
        self._open_ms: int | None = None

    async def read(self, now_ms: int) -> Mapping[str, Decimal]:
        """The sums, dollars; 0 at first."""
        # A charge is stamped before it is committed, so that the hour before this one may still get some.
        open_ms = now_ms - now_ms % MS_PER_HOUR - MS_PER_HOUR
        is_new, since_ms = self._open_ms is None, self._open_ms or open_ms
        sums = await self._accounts.usage(since_ms, max(since_ms, open_ms) + 3 * MS_PER_HOUR, MS_PER_HOUR)
        if is_new:
            # All of this is known, or is from before.
            self._closed = _added(self._told, sums, sign=-1)
        self._told = _added(self._closed, sums)
        self._closed = _added(self._closed, (one for one in sums if one.start_ms < open_ms))
        self._open_ms = max(since_ms, open_ms)
        return self._told

    def clock_moved(self, by_ms: int) -> None:
        """The clock was set forward, or back (below 0): then charges are booked in hours that were over."""
        if by_ms < 0:
            self._open_ms = None


def _added(sums_usd: Mapping[str, Decimal], charges: Iterable[UsageSum], sign: int = 1) -> dict[str, Decimal]:
    added = dict(sums_usd)
    for charge in charges:
        if charge.endpoint_id in added:
            added[charge.endpoint_id] += sign * charge.amount_usd
    return added
