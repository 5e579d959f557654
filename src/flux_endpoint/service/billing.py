"""What was charged, added up by calendar periods."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import InvalidQuery, NotFound
from flux_endpoint.core.periods import MS_PER_DAY, MS_PER_HOUR, Period, from_ms, to_ms
from flux_endpoint.stores.accounts.protocol import AccountStore

_DEFAULT_RANGE: Final = timedelta(days=30)
# No charge is older, none will be younger: times beyond are as good as these, and every period around them exists.
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BillRange:
    """Whole periods from `start` to `end`, which is not included; both UTC."""

    start: datetime
    end: datetime
    period: Period


@dataclass(frozen=True, slots=True)
class BillRecord:
    """What was charged in one period."""

    start: datetime
    end: datetime
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class EndpointBillRecord(BillRecord):
    """What was charged on one endpoint in one period."""

    endpoint_id: str


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one key was charged on one endpoint in one period."""

    start: datetime
    end: datetime
    key_id: str
    key_name: str
    endpoint_id: str
    jobs: int
    amount_usd: Decimal


class Billing:
    """Reads the ledger; changes nothing."""

    def __init__(self, ledger: AccountStore, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def range_of(self, period: Period, start: datetime | None = None, end: datetime | None = None) -> BillRange:
        """The whole periods that a range touches.

        Args:
            period: what to add up by.
            start: UTC; its period is the first. None for 30 days ago.
            end: UTC; the last period ends there or is the one it falls into. None for now.

        Raises:
            InvalidQuery: the end is not after the start.
        """
        now = from_ms(self._clock.now_ms())
        if (end or now) <= (start or now - _DEFAULT_RANGE):
            raise InvalidQuery(["endTime must be after startTime; by default it is now"])
        first = period.start_of(min(max(start or now - _DEFAULT_RANGE, _FIRST), _LAST))
        wanted = min(max(end or now, _FIRST), _LAST)
        last = period.start_of(wanted)
        if last != wanted or last == first:
            last = period.next_after(last)
        return BillRange(first, last, period)

    def last_periods(self, period: Period, count: int) -> BillRange:
        """The latest `count` (1 or more) periods; the last is the current one."""
        current = period.start_of(from_ms(self._clock.now_ms()))
        return BillRange(period.steps_back(current, count - 1), period.next_after(current), period)

    async def bill(self, key: ApiKey, wanted: BillRange) -> list[BillRecord]:
        """What the key may see of the charges, oldest first; periods without a charge are left out.

        A key for some endpoints only sees what it was charged itself, any other key what all were charged.
        """
        unit_ms = _unit_ms(wanted.period)
        sums = await self._ledger.charges(to_ms(wanted.start), to_ms(wanted.end), unit_ms, key.sees_only)
        amounts_usd: dict[datetime, Decimal] = {}
        for part in sums:
            start = wanted.period.start_of(from_ms(part.start_ms))
            amounts_usd[start] = amounts_usd.get(start, Decimal(0)) + part.amount_usd
        return [
            BillRecord(start, wanted.period.next_after(start), amount_usd) for start, amount_usd in amounts_usd.items()
        ]

    async def bill_of_endpoints(self, key: ApiKey, wanted: BillRange) -> list[EndpointBillRecord]:
        """What was charged by period and endpoint; within a period ordered by endpoint ids. Else as `bill`."""
        sums = await self._ledger.usage(to_ms(wanted.start), to_ms(wanted.end), _unit_ms(wanted.period), key.sees_only)
        amounts_usd: dict[tuple[datetime, str], Decimal] = {}
        for part in sums:
            place = (wanted.period.start_of(from_ms(part.start_ms)), part.endpoint_id)
            amounts_usd[place] = amounts_usd.get(place, Decimal(0)) + part.amount_usd
        return [
            EndpointBillRecord(start, wanted.period.next_after(start), amount_usd, endpoint_id)
            for (start, endpoint_id), amount_usd in sorted(amounts_usd.items())
        ]

    async def usage(self, wanted: BillRange, key_id: str | None = None) -> Sequence[UsageRecord]:
        """Who was charged what: by period, key and endpoint, oldest first.

        Raises:
            NotFound: there is no key with the id `key_id`.
        """
        names = {key.id: key.name for key in await self._ledger.list_keys()}
        if key_id is not None and key_id not in names:
            raise NotFound(f"there is no API key with the id '{key_id}'; see flux-endpoint keys list")
        sums = await self._ledger.usage(to_ms(wanted.start), to_ms(wanted.end), _unit_ms(wanted.period), key_id)
        totals: dict[tuple[datetime, str, str], tuple[int, Decimal]] = {}
        for part in sums:
            place = (wanted.period.start_of(from_ms(part.start_ms)), part.key_id, part.endpoint_id)
            jobs, amount_usd = totals.get(place, (0, Decimal(0)))
            totals[place] = (jobs + part.charges, amount_usd + part.amount_usd)
        return [
            UsageRecord(start, wanted.period.next_after(start), key, names.get(key, ""), endpoint, jobs, amount_usd)
            for (start, key, endpoint), (jobs, amount_usd) in sorted(totals.items())
        ]


def _unit_ms(period: Period) -> int:
    return MS_PER_HOUR if period is Period.HOUR else MS_PER_DAY
