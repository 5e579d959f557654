"""How much there is to compute for a job, told from its input alone, for fairness and for estimates."""

import math
from collections.abc import Mapping
from typing import Any, Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.inputs import MAX_PICTURES
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.source_picture import steps_left

# A token of the picture is 16 x 16 pixels.
_TOKEN_PX: Final = 16
_PIXELS_PER_MEGAPIXEL: Final = 1_000_000
# What the prompt adds at most; with schnell it is half of that.
_TEXT_TOKENS: Final = 512
# A layer costs a token 24 x width^2 operations for its products, and 4 x width for each token it attends to.
_TRANSFORMER_WIDTH: Final = 3072
# A second text in the linear layers, and the attention twice, at the sizes of FLUX.1.
_NAG_PASSES: Final = 1.25
# Who has none of these draws all steps; most jobs.
_ONLY_SOME_STEPS: Final = frozenset({"strength", "stop_after", "draft"})
# Encoding the prompt and decoding the pixels, in forward passes.
_ENDS_PASSES: Final = 1


def step_work(width_px: int, height_px: int) -> float:
    """One forward pass: a x tokens + b x tokens^2, where a is 1."""
    tokens = _TEXT_TOKENS + -(-width_px // _TOKEN_PX) * -(-height_px // _TOKEN_PX)
    return tokens + tokens**2 / (6 * _TRANSFORMER_WIDTH)


def picture_work(fields: Mapping[str, Any] | RawJson) -> float | None:
    """All forward passes of a job's pictures in the unit of `step_work`; None for an input that is none of FLUX.

    Args:
        fields: a job's `input`, as its worker gets it; that of a custom endpoint may hold anything.
    """
    numbers = _numbers(fields)
    if numbers is None:
        return None
    width_px, height_px, passes, pictures = numbers
    return step_work(width_px, height_px) * (passes + _ENDS_PASSES) * pictures


def size_and_level(fields: Mapping[str, Any] | RawJson) -> tuple[float, Acceleration]:
    """What past runs are compared by: megapixels x forward passes, 1 for an input that is none of FLUX; and the level.

    Args:
        fields: a job's `input`, as its worker gets it; that of a custom endpoint may hold anything.
    """
    numbers = _numbers(fields)
    if numbers is None or isinstance(fields, RawJson):
        return 1.0, Acceleration.NONE
    # With a ControlNet workers draw at none.
    level = fields.get("acceleration", Acceleration.NONE) if "control_scale" not in fields else Acceleration.NONE
    if level != Acceleration.NONE and passes_of(fields) > 1:
        # With a negative prompt workers draw at a slower level, in one of its modes at none.
        is_exact = fields.get("negative_mode") == NegativeMode.NAG
        level = Acceleration.NONE if is_exact else Acceleration.REGULAR
    return math.prod(numbers) / _PIXELS_PER_MEGAPIXEL, level


def _numbers(fields: Mapping[str, Any] | RawJson) -> tuple[int, int, float, int] | None:
    """Width and height in pixels, passes of one picture, and pictures; None for an input without such things."""
    if isinstance(fields, RawJson):
        # No input of FLUX is so long.
        return None
    numbers = [fields.get(name) for name in ("width", "height", "num_inference_steps")]
    width, height, steps = (value if type(value) is int and 0 < value < 1_000_000 else 0 for value in numbers)
    if not (width and height and steps):
        return None
    if not _ONLY_SOME_STEPS.isdisjoint(fields):
        steps = _drawn_of(steps, fields)
    pictures = fields.get("num_images", 1)
    known = pictures if type(pictures) is int and 0 < pictures <= MAX_PICTURES else 1
    # Most have no negative prompt.
    passes = passes_of(fields) if fields.get("negative_prompt") else 1
    return width, height, steps * passes, known


def steps_drawn(fields: Mapping[str, Any]) -> int:
    """How many steps a job draws of each of its pictures; 0 for an input that is none of FLUX."""
    steps = fields.get("num_inference_steps")
    if type(steps) is not int:
        return 0
    return steps if _ONLY_SOME_STEPS.isdisjoint(fields) else _drawn_of(steps, fields)


def _drawn_of(steps: int, fields: Mapping[str, Any]) -> int:
    """How many of a picture's steps a job draws."""
    strength, stop_after, draft = fields.get("strength"), fields.get("stop_after"), fields.get("draft")
    if isinstance(strength, float) and 0 <= strength <= 1:
        # Of a picture that starts from another.
        steps = steps_left(steps, strength)
    if type(stop_after) is int and 0 < stop_after < steps:
        return stop_after
    done = draft.get("steps") if isinstance(draft, Mapping) else 0
    return steps - done if type(done) is int and 0 < done < steps else steps


def passes_of(fields: Mapping[str, Any]) -> float:
    """Forward passes a step, or what takes as long: more than one where a negative prompt acts."""
    if not fields.get("negative_prompt") or fields.get("true_cfg_scale", 1) == 1:
        return 1
    return _NAG_PASSES if fields.get("negative_mode") == NegativeMode.NAG else 2
