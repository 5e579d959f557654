"""Whether a model is what an endpoint needs, by headers and small files alone; importing it does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.components import INDEX_FILE, SCHEDULER, Located, no_transformer, read_component, use_of
from flux_endpoint.engine.detect import KIND_TEXTS, Component, FileKind, detect, family_of
from flux_endpoint.engine.headers import read_header, read_json
from flux_endpoint.engine.sources import TRANSFORMER_CONFIG, Source, SourceKind, locate, naming, parse_source
from flux_endpoint.engine.variants import PIPELINES, Variant, require_no_kontext, variant_of
from flux_endpoint.files.control_lora import ControlLora, outline_control
from flux_endpoint.files.safetensors_header import TensorHeader

_MARKS: Final = {
    ModelFamily.DEV: "a guidance input",
    ModelFamily.SCHNELL: "no guidance input",
    ModelFamily.FILL: "inputs for a mask",
    ModelFamily.CANNY: "inputs for a map",
}


@dataclass(frozen=True, slots=True)
class Identified:
    """A model whose components are of the right kinds.

    Attributes:
        found: what each component's place holds, and the component's tensors under its module's names.
        variant: what its transformer was trained for.
        lora: what is to be merged into the transformer; None for nothing.
    """

    found: Mapping[Component, tuple[FileKind, Mapping[str, TensorHeader]]]
    variant: Variant
    lora: ControlLora | None = None


def refuse_unloadable(text: str, family: ModelFamily) -> None:
    """Look at a model that is on this machine as a whole: the embedded one and those of the hub are not looked at.

    Args:
        text: a source, see `sources.parse_source`.
        family: which the endpoint needs.

    Raises:
        CheckpointError: its headers say that it could not be loaded.
    """
    source = parse_source(text)
    if source.kind not in (SourceKind.DEMO, SourceKind.HUB):
        located = locate(source, family, download=False)
        with naming(source):
            identify(source, located, family)


def name_component(text: str) -> str | None:
    """What a file is that holds components and no transformer, and how to use it; None for all else.

    Raises:
        CheckpointError: it is a file, and damaged.
    """
    file = Path(text).expanduser()
    kind = detect(read_header(file)) if file.is_file() else FileKind("")
    if not kind.components or Component.TRANSFORMER in kind.components:
        return None
    return f"{', '.join((kind.text, *kind.details))}: use it as {use_of(kind, text)}"


def identify(source: Source, located: Located, family: ModelFamily) -> Identified:
    """Tell what a model's components are.

    Raises:
        CheckpointError: one is missing, damaged or something else, or the transformer is of the other family.
    """
    if source.kind in (SourceKind.DEMO, SourceKind.HUB, SourceKind.FOLDER) and SCHEDULER in located.others:
        check_index(located.folder)
    found = {component: read_component(located, component) for component in Component}
    place, (kind, _) = located.places[Component.TRANSFORMER], found[Component.TRANSFORMER]
    if kind.family is None:
        raise CheckpointError(no_transformer(kind, place, family))
    check_family(source, family, kind.family)
    for component, (kind, _) in found.items():
        # Another part of FLUX.1 in this place; what is of no known kind may be this one with tensors missing.
        if kind.components and component not in kind.components:
            raise CheckpointError(f"{component} is {kind.text}, not {KIND_TEXTS[component]}")
    # The folder of what the hub gave has no telling name.
    called = source.base if source.kind is SourceKind.HUB else located.folder.name
    if source.lora is None:
        return Identified(found, variant_of(place, located.folder, called, family, source.variant))
    # `kind=` says what comes out, not what is merged into.
    require_no_kontext(place, located.folder, called)
    lora = outline_control(source.lora)
    kind, headers = found[Component.TRANSFORMER]
    details = (*kind.details, f"with the control LoRA {source.lora.name}")
    found[Component.TRANSFORMER] = replace(kind, details=details), headers
    return Identified(found, variant_of(source.lora, source.lora.parent, called, family, source.variant), lora)


def check_index(folder: Path) -> None:
    """Check what the small file says that describes a folder in the layout of diffusers.

    Raises:
        CheckpointError: it is no model that is known here.
    """
    kind = read_json(folder / INDEX_FILE).get("_class_name")
    if kind not in PIPELINES:
        raise CheckpointError(f"{folder / INDEX_FILE} describes a {kind}, not a FluxPipeline")


def check_kind(source: Source, folder: Path, family: ModelFamily) -> None:
    """Check what can be known from two small files, before gigabytes of weights are fetched.

    Args:
        source: as the operator named it.
        folder: with `model_index.json` and `transformer/config.json`.
        family: which the endpoint needs.

    Raises:
        CheckpointError: it is no FLUX model, or of the other family.
    """
    check_index(folder)
    config = read_json(folder / TRANSFORMER_CONFIG)
    read = config.get("in_channels", 0)
    # Those of dev and schnell name no output.
    drawn = config.get("out_channels") or read
    check_family(source, family, family_of(read, drawn, has_guidance=bool(config.get("guidance_embeds", False))))


def check_family(source: Source, family: ModelFamily, found: ModelFamily) -> None:
    """Refuse a checkpoint whose inputs are those of another family.

    Args:
        source: as the operator named it.
        family: that the endpoint needs.
        found: by the tensors.

    Raises:
        CheckpointError: it is of another family.
    """
    needed = source.family_in_files(family)
    if found is not needed.by_tensors:
        what = f"a {found.by_tensors_words} checkpoint (it has {_MARKS[found]})"
        who = "the endpoint needs" if source.lora is None else f"{source.lora.name} is merged into"
        raise CheckpointError(f"this is {what}, and {who} {needed}")
