"""Models with the names and shapes of FLUX.1 [dev] that are for something else, or are called something else."""

from enum import StrEnum
from pathlib import Path
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.components import INDEX_FILE
from flux_endpoint.engine.headers import read_json


class Variant(StrEnum):
    """What a transformer was trained for. Kontext, Krea and most fine-tunes are told from dev by no tensor."""

    DEV = "dev"
    SCHNELL = "schnell"
    KREA = "krea"
    KONTEXT = "kontext"
    FILL = "fill"


_PIPELINES: Final = {"FluxKontextPipeline": Variant.KONTEXT, "FluxFillPipeline": Variant.FILL}
# What these draw, they draw from a picture.
_READING_PICTURES: Final = {Variant.KONTEXT: "changes pictures", Variant.FILL: "fills parts of pictures"}
_TOLD_BY_NAME: Final = (Variant.KONTEXT, Variant.KREA, Variant.FILL)


def variant_of(place: Path, index_folder: Path, family: ModelFamily, word: Variant | None) -> Variant:
    """What a transformer is.

    Args:
        place: its file or folder, whose name may tell.
        index_folder: whose `model_index.json` may tell.
        family: by its guidance.
        word: the user's, which decides; None if nothing was said.

    Raises:
        CheckpointError: it draws from pictures, or is no such model by its guidance.
    """
    found, why = _found(place, index_folder, family)
    variant = word or found
    if variant in _READING_PICTURES:
        hint = "" if word else f" ({why}; kind=dev says that it is none)"
        raise CheckpointError(
            f"this is FLUX.1 {variant.capitalize()}{hint}, which {_READING_PICTURES[variant]}; "
            f"the endpoint draws from text alone"
        )
    if (variant is Variant.SCHNELL) != (family is ModelFamily.SCHNELL):
        raise CheckpointError(f"kind={variant} does not fit: by its guidance this is a {family} transformer")
    return variant


def _found(place: Path, index_folder: Path, family: ModelFamily) -> tuple[Variant, str]:
    index = index_folder / INDEX_FILE
    if index.is_file():
        pipeline = str(read_json(index).get("_class_name"))
        if pipeline in _PIPELINES:
            return _PIPELINES[pipeline], f"{INDEX_FILE} names a {pipeline}"
    if family is ModelFamily.SCHNELL:
        return Variant.SCHNELL, ""
    name = place.name.lower() if place.is_file() else index_folder.name.lower()
    for variant in _TOLD_BY_NAME:
        if variant in name:
            return variant, f"by the name {name}"
    return Variant.DEV, ""
