"""The speed levels. What each does is in `engine/levels.py`, how far each is off in docs/concepts/speed-levels.md."""

from enum import StrEnum


class Acceleration(StrEnum):
    """How much faster than exact a picture is drawn."""

    NONE = "none"  # exact
    REGULAR = "regular"  # other sums; never more than 1 of 255 off
    HIGH = "high"  # fewer bits and fewer passes; another file, and by eye the same picture
