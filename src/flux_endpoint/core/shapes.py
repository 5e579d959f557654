"""Sizes of pictures as other servers' clients write them: `1024x768`, `512*512`, `16:9`."""

import re
from math import gcd
from typing import Final

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.inputs import SIDE

# Pictures that are asked for by their shape.
MEGAPIXEL: Final = 1024 * 1024
# The server's choice of a size.
AUTO: Final = "auto"
_SIDE_STEP: Final = 64
_SIZE: Final = re.compile(r"(\d{1,5})[xX*](\d{1,5})")


def size_of(name: str, value: object) -> dict[str, int]:
    """Width and height of a size such as `1024x768` or `512*512`; nothing for `auto`.

    Raises:
        InvalidParameter: it is none; `name` is what the field is called.
    """
    if value == AUTO:
        return {}
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidParameter(name, f"must be '{AUTO}', or width and height in pixels such as '1024x768'")
    return {"width": int(found[1]), "height": int(found[2])}


def sides_like(source: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height of a picture in the shape of another: multiples of 64, within the limits.

    Args:
        source: width and height of the other.
        width: None to be told by the shape.
        height: None to be told by the shape; without both, the picture is as large as the other.
    """
    if width is not None and height is not None:
        return width, height
    if width is None and height is None:
        scale = min(1.0, SIDE.maximum / max(source))
        scale = max(scale, SIDE.minimum / min(source))
    else:
        scale = width / source[0] if width is not None else (height or 0) / source[1]
    fitted = [min(SIDE.maximum, max(SIDE.minimum, round(side * scale / _SIDE_STEP) * _SIDE_STEP)) for side in source]
    return fitted[0] if width is None else width, fitted[1] if height is None else height


def shape_of(ratio: object) -> tuple[int, int]:
    """The two numbers of a shape such as `16:9`, without a common factor.

    Raises:
        InvalidParameter: it is no shape.
    """
    parts = ratio.split(":") if isinstance(ratio, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 1_000 for part in parts):
        raise InvalidParameter("aspect_ratio", "must be two whole numbers such as '16:9'")
    across, down = map(int, parts)
    return across // gcd(across, down), down // gcd(across, down)


def sides_of(ratio: object, pixels: int = MEGAPIXEL) -> tuple[int, int]:
    """Width and height, multiples of 64, of about so many pixels in a shape such as `16:9`.

    Raises:
        InvalidParameter: it is no shape that can be drawn.
    """
    across, down = shape_of(ratio)
    unit = (pixels / (across * down)) ** 0.5
    width, height = (round(side * unit / _SIDE_STEP) * _SIDE_STEP for side in (across, down))
    if not all(SIDE.minimum <= side <= SIDE.maximum for side in (width, height)):
        raise InvalidParameter(
            "aspect_ratio", f"asks for {width}x{height}: sides are from {SIDE.minimum} to {SIDE.maximum}"
        )
    return width, height
