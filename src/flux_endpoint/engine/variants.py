"""Models with the names and shapes of FLUX.1 [dev] that are for something else, or are called something else."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.components import INDEX_FILE
from flux_endpoint.engine.headers import read_json


class Variant(StrEnum):
    """What a transformer was trained for.

    Kontext, Krea and most fine-tunes are told from dev by no tensor, nor is Depth from Canny.
    """

    DEV = "dev"
    SCHNELL = "schnell"
    KREA = "krea"
    KONTEXT = "kontext"
    FILL = "fill"
    CANNY = "canny"
    DEPTH = "depth"


_KONTEXT_PIPELINE: Final = "FluxKontextPipeline"
# What diffusers calls them.
PIPELINES: Final = ("FluxPipeline", _KONTEXT_PIPELINE, "FluxFillPipeline", "FluxControlPipeline")
_TOLD_BY_NAME: Final[Mapping[ModelFamily, tuple[Variant, ...]]] = {
    ModelFamily.DEV: (Variant.KONTEXT, Variant.KREA),
    ModelFamily.CANNY: (Variant.CANNY, Variant.DEPTH),
}
# Of those whose tensors are another's, and which draw noise, or along the wrong map, in place of that.
_MUST_BE_TOLD: Final = (ModelFamily.KONTEXT, ModelFamily.CANNY, ModelFamily.DEPTH)
_FAMILIES: Final = {
    Variant.DEV: ModelFamily.DEV,
    Variant.SCHNELL: ModelFamily.SCHNELL,
    Variant.KREA: ModelFamily.DEV,
    Variant.KONTEXT: ModelFamily.KONTEXT,
    Variant.FILL: ModelFamily.FILL,
    Variant.CANNY: ModelFamily.CANNY,
    Variant.DEPTH: ModelFamily.DEPTH,
}


def variant_of(place: Path, index_folder: Path, called: str, family: ModelFamily, word: Variant | None) -> Variant:
    """What a transformer is, whose tensors are those of the family that is needed.

    Args:
        place: its file or folder; the name of a file may tell.
        index_folder: whose `model_index.json` may tell.
        called: the model's own name, which may tell.
        family: that the endpoint needs.
        word: the user's, which decides; None if nothing was said.

    Raises:
        CheckpointError: it is for something else than the endpoint, or cannot be what the user says.
    """
    found, why = _found(place, index_folder, called, family.by_tensors)
    variant = word or found
    if word is not None and _FAMILIES[word].by_tensors is not family.by_tensors:
        looks = f"a {family.by_tensors_words} transformer"
        raise CheckpointError(f"kind={word} does not fit: by its inputs this is {looks}")
    if variant is not None and _FAMILIES[variant] is family:
        return variant
    if family in _MUST_BE_TOLD:
        raise CheckpointError(f"{_not_told(family, word, variant, why)}, which the endpoint needs")
    hint = "" if word else f" ({why}; kind=dev says that it is none)"
    which = f"this is FLUX.1 {variant and variant.capitalize()}{hint}"
    raise CheckpointError(f"{which}, which has an endpoint of its own: FLUX_ENDPOINT_KONTEXT_MODEL")


def require_no_kontext(place: Path, index_folder: Path, called: str) -> None:
    """Refuse what has dev's tensors and is no ground for a control LoRA; a Krea is, and a fine-tune.

    Args:
        place: of the transformer, its file or folder.
        index_folder: whose `model_index.json` may tell.
        called: the model's own name, which may tell.

    Raises:
        CheckpointError: it is Kontext.
    """
    found, why = _found(place, index_folder, called, ModelFamily.DEV)
    if found is Variant.KONTEXT:
        raise CheckpointError(f"{why} this is FLUX.1 Kontext, and a control LoRA is merged into FLUX.1 dev")


def _not_told(family: ModelFamily, word: Variant | None, found: Variant | None, why: str) -> str:
    needed = f"FLUX.1 {family.capitalize()}"
    if word:
        return f"kind={word} says that this is not {needed}"
    if found is not None and why:
        return f"{why} this is FLUX.1 {found.capitalize()} and not (kind={family} says otherwise) {needed}"
    return f"nothing says that this is {needed} (kind={family} does)"


def _found(place: Path, index_folder: Path, called: str, tensors: ModelFamily) -> tuple[Variant | None, str]:
    """What it is, None where nothing tells, and what has told."""
    if tensors not in _TOLD_BY_NAME:
        return (Variant.FILL if tensors is ModelFamily.FILL else Variant.SCHNELL), ""
    index = index_folder / INDEX_FILE
    if index.is_file():
        pipeline = str(read_json(index).get("_class_name"))
        if pipeline == _KONTEXT_PIPELINE:
            return Variant.KONTEXT, f"{INDEX_FILE} names a {pipeline}"
    name = (place.name if place.is_file() else called).lower()
    for variant in _TOLD_BY_NAME[tensors]:
        if variant in name:
            return variant, f"by the name {name}"
    return (Variant.DEV if tensors is ModelFamily.DEV else None), ""
