from decimal import Decimal

import pytest

from flux_endpoint.core.account import READING, ApiKey, KeyLimits, Operation
from flux_endpoint.core.errors import Forbidden, InvalidRequest


def key(**limits):
    return ApiKey("key-1", "laptop", 0, limits=KeyLimits(**limits))


def test_a_key_without_limits_may_do_everything():
    for operation in Operation:
        key().require("dev", operation)
    key().require_writing("anything")


@pytest.mark.parametrize("operation", [name for name in Operation if name not in READING])
def test_a_read_only_key_changes_nothing(operation):
    with pytest.raises(Forbidden, match=f"'laptop' is read only: it may not use /{operation}$"):
        key(is_read_only=True).require("dev", operation)


def test_a_read_only_key_may_look():
    for operation in (Operation.STATUS, Operation.HEALTH, Operation.ESTIMATE, Operation.BILLING):
        key(is_read_only=True).require("dev", operation)


def test_a_restricted_key_opens_its_endpoints_only():
    restricted = key(endpoint_ids=frozenset({"dev", "own"}))
    restricted.require("own", Operation.RUN)
    restricted.require(None, Operation.BILLING)
    with pytest.raises(Forbidden, match="'laptop' does not open the endpoint 'schnell', only dev, own"):
        restricted.require("schnell", Operation.STATUS)


@pytest.mark.parametrize(
    "limits",
    [
        {"usd_per_month": Decimal("-0.01")},
        {"usd_per_month": Decimal("0.000000001")},
        {"usd_per_month": Decimal("1000000000.01")},
        {"usd_per_month": Decimal("NaN")},
        {"usd_per_month": Decimal("Infinity")},
        {"requests_per_minute": 0},
        {"requests_per_minute": -1},
        {"requests_per_minute": 1_000_001},
        {"endpoint_ids": frozenset()},
        {"endpoint_ids": frozenset({"a b"})},
        {"endpoint_ids": frozenset({""})},
    ],
)
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(InvalidRequest, match=r"must be|has 1 to 100"):
        KeyLimits(**limits)


def test_limits_at_the_ends_of_their_ranges_are_taken():
    KeyLimits(usd_per_month=Decimal(0), requests_per_minute=1)
    KeyLimits(usd_per_month=Decimal(1_000_000_000), requests_per_minute=1_000_000)
    KeyLimits(usd_per_month=Decimal("0.00000001"))
