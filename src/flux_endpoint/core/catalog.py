"""The catalogue of models: their names, words and prices. What each takes is in `core/inputs.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.pricing import Price, PriceUnit


class ModelFamily(StrEnum):
    """What a FLUX.1 checkpoint draws, and from what."""

    DEV = "dev"  # with guidance embedding, distilled guidance
    SCHNELL = "schnell"  # without; distilled to few steps
    KONTEXT = "kontext"  # dev that reads a picture beside the prompt, and changes it
    FILL = "fill"  # dev that reads a picture with a hole in it, and fills that
    CANNY = "canny"  # dev that reads a picture of edges, and draws what has them
    DEPTH = "depth"  # dev that reads a picture of distances, and draws what has them

    @property
    def by_tensors(self) -> "ModelFamily":
        """The family that a file of it looks like: Kontext has names and shapes of dev, and Depth those of Canny."""
        return {ModelFamily.KONTEXT: ModelFamily.DEV, ModelFamily.DEPTH: ModelFamily.CANNY}.get(self, self)

    @property
    def by_tensors_words(self) -> str:
        """What a file of it looks like, for people."""
        return "canny or depth" if self.reads_map else self.by_tensors.value

    @property
    def reads_map(self) -> bool:
        """Whether it draws along a `control_image`."""
        return self in (ModelFamily.CANNY, ModelFamily.DEPTH)

    @property
    def takes_controlnet(self) -> bool:
        """Whether a ControlNet can be loaded beside it, which makes it draw along a `control_image`."""
        return self is ModelFamily.DEV


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One endpoint of the catalogue.

    Attributes:
        endpoint_id: the id in the URL.
        description: one sentence for people.
        max_text_tokens: T5 tokens the transformer reads; a longer prompt is cut, with a warning.
        price: of what is finished.
        acceleration: of requests that name none.
    """

    endpoint_id: str
    display_name: str
    description: str
    family: ModelFamily
    max_text_tokens: int
    price: Price
    acceleration: Acceleration = Acceleration.NONE


FLUX_DEV: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-dev",
    display_name="Flux Dev",
    description="The detailed one: many steps, close to the prompt.",
    family=ModelFamily.DEV,
    max_text_tokens=512,
    price=Price(Decimal("0.02"), PriceUnit.MEGAPIXEL),
)

FLUX_SCHNELL: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-schnell",
    display_name="Flux Schnell",
    description="The quick one: a picture in a handful of steps.",
    family=ModelFamily.SCHNELL,
    max_text_tokens=256,
    price=Price(Decimal("0.0024"), PriceUnit.MEGAPIXEL),
)

FLUX_KONTEXT: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-kontext-dev",
    display_name="Flux Kontext Dev",
    description="The one that changes pictures: send one, and say what is to be different.",
    family=ModelFamily.KONTEXT,
    max_text_tokens=512,
    price=Price(Decimal("0.025"), PriceUnit.PICTURE),
)

FLUX_FILL: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-fill-dev",
    display_name="Flux Fill Dev",
    description="The one that completes pictures: send one with a mask, and say what is to be there.",
    family=ModelFamily.FILL,
    max_text_tokens=512,
    # Runpod has no such endpoint: as Flux Dev.
    price=Price(Decimal("0.02"), PriceUnit.MEGAPIXEL),
)

FLUX_CANNY: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-canny-dev",
    display_name="Flux Canny Dev",
    description="The one that follows edges: send a picture of edges, and say what has them.",
    family=ModelFamily.CANNY,
    max_text_tokens=512,
    # Runpod has no such endpoint: as Flux Dev.
    price=Price(Decimal("0.02"), PriceUnit.MEGAPIXEL),
)

FLUX_DEPTH: Final = ModelSpec(
    endpoint_id="black-forest-labs-flux-1-depth-dev",
    display_name="Flux Depth Dev",
    description="The one that follows distances: send a picture of depths, and say what has them.",
    family=ModelFamily.DEPTH,
    max_text_tokens=512,
    # Runpod has no such endpoint: as Flux Dev.
    price=Price(Decimal("0.02"), PriceUnit.MEGAPIXEL),
)

# Those with weights are offered.
CATALOG: Final[Mapping[str, ModelSpec]] = {
    spec.endpoint_id: spec for spec in (FLUX_DEV, FLUX_SCHNELL, FLUX_KONTEXT, FLUX_FILL, FLUX_CANNY, FLUX_DEPTH)
}


def is_fake(source: str) -> bool:
    """Whether a model source names the engine without a model, for tests and benchmarks."""
    return source == "fake" or source.startswith("fake:")
