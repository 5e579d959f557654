"""Which of the configured models a command is about."""

from typing import Final

from flux_endpoint.core.catalog import CATALOG, ModelFamily, ModelSpec
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.settings.engine import EngineSettings

MODEL_SETTINGS: Final = (
    *("model", "schnell_model", "kontext_model", "fill_model", "canny_model", "depth_model"),
    *("redux_model", "controlnet_model"),
)


def spec_of(family: ModelFamily) -> ModelSpec:
    """The endpoint of a family."""
    return next(spec for spec in CATALOG.values() if spec.family is family)


def add_ons_of(settings: EngineSettings) -> AddOns:
    """What is loaded beside the models."""
    return AddOns(settings.redux_model, settings.controlnet)


def model_of(settings: WorkerSettings, family: ModelFamily) -> tuple[ModelSpec, str]:
    """The endpoint of a family, and its checkpoint as the settings name it.

    Raises:
        SettingsError: they name none.
    """
    spec = spec_of(family)
    source = settings.sources.get(spec.endpoint_id)
    if source is None:
        raise SettingsError(
            f"no {spec.display_name} checkpoint: set FLUX_ENDPOINT_{family.upper()}_MODEL (option --{family}-model)"
        )
    return spec, source
