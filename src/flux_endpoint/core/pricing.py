"""What a picture costs, in exact decimal US dollars."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Final

# Prices are shown and charged to the hundred-millionth of a dollar, as Runpod's samples do (0.02097152).
COST_QUANTUM_USD: Final = Decimal("0.00000001")
_UNITS_PER_USD: Final = 100_000_000
_PIXELS_PER_MEGAPIXEL: Final = 1_000_000
# Pictures of one size cost the same: of most jobs the amount is one that was converted before.
_AMOUNTS: Final = 1_024


class PriceUnit(StrEnum):
    """What a price is for."""

    MEGAPIXEL = "megapixel"  # 1,000,000 pixels of a finished picture
    PICTURE = "picture"  # a finished one, whatever its size
    JOB = "job"  # a completed one


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one unit."""

    usd: Decimal
    unit: PriceUnit


@lru_cache(_AMOUNTS)
def image_cost_usd(price: Price, width_px: int, height_px: int) -> Decimal:
    """Price of one finished picture of the size asked for; steps do not change it.

    Args:
        price: of a model, for a megapixel or a picture.
        width_px: of the picture.
        height_px: of the picture.

    Returns:
        US dollars, rounded half up to 8 decimals.
    """
    megapixels = Decimal(width_px * height_px) / _PIXELS_PER_MEGAPIXEL
    exact = price.usd * megapixels if price.unit is PriceUnit.MEGAPIXEL else price.usd
    return exact.quantize(COST_QUANTUM_USD, rounding=ROUND_HALF_UP)


def share_usd(whole_usd: Decimal, steps: int, of_steps: int) -> Decimal:
    """What a part of a picture costs, by the steps that it has; rounded half up to 8 decimals.

    Args:
        whole_usd: price of the finished picture.
        steps: of the part.
        of_steps: of the whole picture.
    """
    return (whole_usd * steps / of_steps).quantize(COST_QUANTUM_USD, rounding=ROUND_HALF_UP)


def show_usd(amount_usd: Decimal) -> str:
    """An amount for people: every digit that matters, and at least two decimals."""
    text = f"{amount_usd:,.8f}"
    return text[:-6] + text[-6:].rstrip("0")


@lru_cache(_AMOUNTS)
def usd_to_units(amount_usd: Decimal) -> int:
    """An amount as whole hundred-millionths of a dollar: how databases without decimals keep it exact.

    Raises:
        ValueError: the amount has more than 8 decimals.
    """
    units = amount_usd * _UNITS_PER_USD
    if units != units.to_integral_value():
        raise ValueError(f"{amount_usd} USD has more than 8 decimals")
    return int(units)


@lru_cache(_AMOUNTS)
def units_to_usd(units: int) -> Decimal:
    """The inverse of `usd_to_units`."""
    return (Decimal(units) / _UNITS_PER_USD).quantize(COST_QUANTUM_USD)
