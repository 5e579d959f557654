"""`core.pricing`: exact decimal money."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.pricing import Price, PriceUnit, image_cost_usd, units_to_usd, usd_to_units


@pytest.mark.parametrize(
    ("spec", "width_px", "height_px", "cost_usd"),
    [
        (FLUX_DEV, 1024, 1024, "0.02097152"),
        (FLUX_DEV, 256, 256, "0.00131072"),
        (FLUX_DEV, 1536, 1536, "0.04718592"),
        (FLUX_DEV, 1472, 1140, "0.03356160"),
        (FLUX_SCHNELL, 1024, 1024, "0.00251658"),
        (FLUX_SCHNELL, 256, 256, "0.00015729"),
        (FLUX_SCHNELL, 1536, 1536, "0.00566231"),
    ],
)
def test_a_picture_costs_its_pixels_rounded_half_up(spec, width_px, height_px, cost_usd):
    cost = image_cost_usd(spec.price, width_px, height_px)
    assert cost == Decimal(cost_usd)
    assert str(cost) == cost_usd


def test_a_price_per_picture_is_the_same_for_every_size():
    price = Price(Decimal("0.025"), PriceUnit.PICTURE)
    assert {str(image_cost_usd(price, *size)) for size in ((256, 256), (1536, 1024))} == {"0.02500000"}


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_every_price_is_a_whole_number_of_units(width_px, height_px):
    for spec in (FLUX_DEV, FLUX_SCHNELL):
        cost = image_cost_usd(spec.price, width_px, height_px)
        assert units_to_usd(usd_to_units(cost)) == cost
        exact = Decimal(width_px * height_px) * spec.price.usd / 1_000_000
        assert abs(cost - exact) <= Decimal("0.000000005")


@given(st.integers(-(2**63), 2**63 - 1))
def test_units_and_dollars_are_inverse(units):
    assert usd_to_units(units_to_usd(units)) == units
    assert units_to_usd(units).as_tuple().exponent == -8


def test_an_amount_finer_than_a_unit_is_refused():
    with pytest.raises(ValueError, match="1E-9 USD has more than 8 decimals"):
        usd_to_units(Decimal("0.000000001"))
