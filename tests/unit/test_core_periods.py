from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_endpoint.core.periods import Period, from_ms, to_ms


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "start", "after"),
    [
        (Period.HOUR, at(2024, 2, 29, 23), at(2024, 3, 1)),
        (Period.DAY, at(2024, 2, 29), at(2024, 3, 1)),
        # A Thursday.
        (Period.WEEK, at(2024, 2, 26), at(2024, 3, 4)),
        (Period.MONTH, at(2024, 2, 1), at(2024, 3, 1)),
        (Period.YEAR, at(2024, 1, 1), at(2025, 1, 1)),
    ],
)
def test_the_period_of_a_moment(period, start, after):
    assert period.start_of(at(2024, 2, 29, 23, 59, 59, 999_999)) == start
    assert period.next_after(start) == after
    assert period.start_of(start) == start


@given(
    st.sampled_from(Period),
    st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 50),
)
def test_periods_follow_each_other_without_gap_and_overlap(period, time, steps):
    start = period.start_of(time)
    after = period.next_after(start)
    assert start <= time < after
    assert period.start_of(after) == after
    assert period.start_of(after - timedelta(microseconds=1)) == start
    back = period.steps_back(start, steps)
    for _ in range(steps):
        back = period.next_after(back)
    assert back == start


@pytest.mark.parametrize("period", Period)
def test_steps_back_end_at_the_first_year(period):
    assert period.steps_back(period.start_of(at(2024, 5, 5)), 10**30).year == 1


@given(st.integers(0, 10**14))
def test_milliseconds_and_back(time_ms):
    assert to_ms(from_ms(time_ms)) == time_ms
