"""How a negative prompt acts. What each way does is in `engine/denoise.py` and `engine/nag.py`."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class NegativeMode(StrEnum):
    """Where a picture is pushed away from what the negative prompt names."""

    CFG = "cfg"  # in the prediction of each step, for which there is a second one
    NAG = "nag"  # in the attention, within the one pass of each step


# How strongly, where nobody says: chosen by counting pictures, docs/decisions/0004-negative-prompts.md and 0049.
STRENGTHS: Final[Mapping[NegativeMode, float]] = MappingProxyType({NegativeMode.CFG: 3.0, NegativeMode.NAG: 5.0})
