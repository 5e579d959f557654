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


_KONTEXT_PIPELINE: Final = "FluxKontextPipeline"
# What diffusers calls them.
PIPELINES: Final = ("FluxPipeline", _KONTEXT_PIPELINE, "FluxFillPipeline")
_TOLD_BY_NAME: Final = (Variant.KONTEXT, Variant.KREA)
_FAMILIES: Final = {
    Variant.DEV: ModelFamily.DEV,
    Variant.SCHNELL: ModelFamily.SCHNELL,
    Variant.KREA: ModelFamily.DEV,
    Variant.KONTEXT: ModelFamily.KONTEXT,
    Variant.FILL: ModelFamily.FILL,
}


def variant_of(place: Path, index_folder: Path, family: ModelFamily, word: Variant | None) -> Variant:
    """What a transformer is, whose tensors are those of the family that is needed.

    Args:
        place: its file or folder, whose name may tell.
        index_folder: whose `model_index.json` may tell.
        family: that the endpoint needs.
        word: the user's, which decides; None if nothing was said.

    Raises:
        CheckpointError: it is for something else than the endpoint, or cannot be what the user says.
    """
    found, why = _found(place, index_folder, family.by_tensors)
    variant = word or found
    if word is not None and _FAMILIES[word].by_tensors is not family.by_tensors:
        raise CheckpointError(f"kind={word} does not fit: by its inputs this is a {family.by_tensors} transformer")
    if _FAMILIES[variant] is family:
        return variant
    if family is ModelFamily.KONTEXT:
        who = f"kind={word} says that this is not" if word else "nothing says that this is"
        hint = "" if word else " (kind=kontext does)"
        raise CheckpointError(f"{who} FLUX.1 Kontext{hint}, which the endpoint needs")
    hint = "" if word else f" ({why}; kind=dev says that it is none)"
    which = f"this is FLUX.1 {variant.capitalize()}{hint}"
    raise CheckpointError(f"{which}, which has an endpoint of its own: FLUX_ENDPOINT_KONTEXT_MODEL")


def _found(place: Path, index_folder: Path, tensors: ModelFamily) -> tuple[Variant, str]:
    if tensors is not ModelFamily.DEV:
        return (Variant.FILL if tensors is ModelFamily.FILL else Variant.SCHNELL), ""
    index = index_folder / INDEX_FILE
    if index.is_file():
        pipeline = str(read_json(index).get("_class_name"))
        if pipeline == _KONTEXT_PIPELINE:
            return Variant.KONTEXT, f"{INDEX_FILE} names a {pipeline}"
    name = place.name.lower() if place.is_file() else index_folder.name.lower()
    for variant in _TOLD_BY_NAME:
        if variant in name:
            return variant, f"by the name {name}"
    return Variant.DEV, ""
