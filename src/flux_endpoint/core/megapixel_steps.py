"""How much there is to compute for a job: megapixels x steps, which execution times are proportional to."""

from collections.abc import Mapping
from typing import Any, Final

from flux_endpoint.core.raw_json import RawJson

_PIXELS_PER_MEGAPIXEL: Final = 1_000_000


def megapixel_steps(fields: Mapping[str, Any] | RawJson) -> float:
    """Megapixels x steps, twice that when a negative prompt asks for a second pass; 1 for an input that names neither.

    Args:
        fields: a job's `input`, as its worker gets it; that of a custom endpoint may hold anything.
    """
    if isinstance(fields, RawJson):
        # No input of FLUX is so long.
        return 1.0
    width, height, steps = (fields.get(name) for name in ("width", "height", "num_inference_steps"))
    numbers = [value for value in (width, height, steps) if type(value) is int and 0 < value < 1_000_000]
    if len(numbers) < 3:
        return 1.0
    passes = 2 if fields.get("negative_prompt") and fields.get("true_cfg_scale", 1) != 1 else 1
    return numbers[0] * numbers[1] * numbers[2] * passes / _PIXELS_PER_MEGAPIXEL
