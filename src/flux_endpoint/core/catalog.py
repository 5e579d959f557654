"""The catalogue of models: the only home of their limits, defaults and prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final


class ModelFamily(StrEnum):
    """Which of the two FLUX.1 architectures a checkpoint has."""

    DEV = "dev"  # with guidance embedding, distilled guidance
    SCHNELL = "schnell"  # without; distilled to few steps


@dataclass(frozen=True, slots=True)
class IntRange:
    """Whole numbers a parameter may take; both ends included."""

    minimum: int
    maximum: int
    default: int
    multiple_of: int = 1


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers a parameter may take; both ends included."""

    minimum: float
    maximum: float
    default: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One endpoint of the catalogue.

    Attributes:
        endpoint_id: the id in the URL.
        description: one sentence for people.
        size_px: width and height.
        extra_sizes: (width, height) pairs an official client sends by itself although they break `size_px`; the
            picture is rendered at the next workable size and cropped.
        max_prompt_chars: length at which a prompt is refused; FLUX itself cuts prompts by tokens long before.
        max_text_tokens: T5 tokens the transformer reads; a longer prompt is cut, with a warning.
        usd_per_megapixel: price of 1,000,000 pixels.
    """

    endpoint_id: str
    display_name: str
    description: str
    family: ModelFamily
    size_px: IntRange
    num_inference_steps: IntRange
    guidance: FloatRange
    true_cfg_scale: FloatRange
    max_prompt_chars: int
    max_text_tokens: int
    usd_per_megapixel: Decimal
    extra_sizes: frozenset[tuple[int, int]]


_SIZE_PX = IntRange(minimum=256, maximum=1536, default=1024, multiple_of=64)
_GUIDANCE = FloatRange(minimum=0.0, maximum=10.0, default=7.5)
# Chosen by counting pictures: docs/decisions/0004-negative-prompts.md
_TRUE_CFG_SCALE = FloatRange(minimum=1.0, maximum=10.0, default=3.0)
# Sent by @runpod/ai-sdk-provider for its aspect ratios 1:1, 4:3 and 3:4.
_AI_SDK_SIZES = frozenset({(1328, 1328), (1472, 1140), (1140, 1472)})
# Far beyond 512 tokens of any language, small enough for a database row.
_MAX_PROMPT_CHARS = 10_000

FLUX_DEV: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-dev",
    display_name="Flux Dev",
    description="The detailed one: many steps, close to the prompt.",
    family=ModelFamily.DEV,
    size_px=_SIZE_PX,
    num_inference_steps=IntRange(minimum=1, maximum=50, default=28),
    guidance=_GUIDANCE,
    true_cfg_scale=_TRUE_CFG_SCALE,
    max_prompt_chars=_MAX_PROMPT_CHARS,
    max_text_tokens=512,
    usd_per_megapixel=Decimal("0.02"),
    extra_sizes=_AI_SDK_SIZES,
)

FLUX_SCHNELL: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-schnell",
    display_name="Flux Schnell",
    description="The quick one: a picture in a handful of steps.",
    family=ModelFamily.SCHNELL,
    size_px=_SIZE_PX,
    num_inference_steps=IntRange(minimum=1, maximum=8, default=4),
    guidance=_GUIDANCE,
    true_cfg_scale=_TRUE_CFG_SCALE,
    max_prompt_chars=_MAX_PROMPT_CHARS,
    max_text_tokens=256,
    usd_per_megapixel=Decimal("0.0024"),
    extra_sizes=_AI_SDK_SIZES,
)

CATALOG: Final[Mapping[str, ModelSpec]] = {spec.endpoint_id: spec for spec in (FLUX_DEV, FLUX_SCHNELL)}
