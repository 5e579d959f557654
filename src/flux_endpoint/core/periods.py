"""Calendar periods, all in UTC: what bills are summed by and budgets run for."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

MS_PER_HOUR: Final = 3_600_000
MS_PER_DAY: Final = 86_400_000


class Period(StrEnum):
    """A length of time with a natural beginning; the values are the wire's `bucketSize`."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"  # from Monday
    MONTH = "month"
    YEAR = "year"

    def start_of(self, time: datetime) -> datetime:
        """The beginning of the period that `time` (UTC) falls into."""
        hour = time.replace(minute=0, second=0, microsecond=0)
        day = hour.replace(hour=0)
        match self:
            case Period.HOUR:
                return hour
            case Period.DAY:
                return day
            case Period.WEEK:
                return day - timedelta(days=day.weekday())
            case Period.MONTH:
                return day.replace(day=1)
            case Period.YEAR:
                return day.replace(month=1, day=1)

    def next_after(self, start: datetime) -> datetime:
        """The beginning of the period after the one that begins at `start`."""
        match self:
            case Period.HOUR:
                return start + timedelta(hours=1)
            case Period.DAY:
                return start + timedelta(days=1)
            case Period.WEEK:
                return start + timedelta(days=7)
            case Period.MONTH:
                # No month is longer than 31 days.
                return Period.MONTH.start_of(start + timedelta(days=31))
            case Period.YEAR:
                return start.replace(year=start.year + 1)

    def steps_back(self, start: datetime, steps: int) -> datetime:
        """The beginning of the period `steps` before the one that begins at `start`; never before the year 1."""
        match self:
            case Period.MONTH:
                months = max(12, start.year * 12 + start.month - 1 - steps)
                return start.replace(year=months // 12, month=months % 12 + 1)
            case Period.YEAR:
                return start.replace(year=max(1, start.year - steps))
            case _:
                length = self.next_after(start) - start
                first = datetime.min.replace(tzinfo=UTC)
                return first if steps > (start - first) // length else start - steps * length


def from_ms(time_ms: int) -> datetime:
    """A time in milliseconds since 1970-01-01 UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=time_ms)


def to_ms(time: datetime) -> int:
    """The inverse of `from_ms`; exact."""
    return (time - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def as_text(time: datetime) -> str:
    """A time (UTC) for programs: `2026-11-01T12:00:00Z`."""
    return time.isoformat().replace("+00:00", "Z")
