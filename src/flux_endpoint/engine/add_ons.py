"""What can be loaded beside a model, as the settings name it."""

from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.controlnet import NamedControlNet


@dataclass(frozen=True, slots=True)
class AddOns:
    """What is loaded beside those models that can use it.

    Attributes:
        redux: FLUX.1 Redux, a hub id or a folder; None for none.
        controlnet: None for none.
    """

    redux: str | None = None
    controlnet: NamedControlNet | None = None


NO_ADD_ONS: Final = AddOns()
