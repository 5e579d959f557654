"""Which file or folder holds which component of a model: in the layouts of diffusers, ComfyUI and Black Forest Labs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.text import listing
from flux_endpoint.engine.detect import (
    KIND_TEXTS,
    Component,
    ControlNetPart,
    FileKind,
    ReduxPart,
    detect,
    split_components,
    unwrapped,
)
from flux_endpoint.engine.headers import WEIGHT_ENDINGS, is_component_folder, is_shard, read_folder, read_header
from flux_endpoint.engine.original_vae import diffusers_names
from flux_endpoint.files.safetensors_header import TensorHeader

INDEX_FILE: Final = "model_index.json"
TOKENIZERS: Final = ("tokenizer", "tokenizer_2")
SCHEDULER: Final = "scheduler"
# What people write to name a single component, or what a transformer is that nothing in its file tells.
COMPONENT_WORDS: Final[Mapping[str, Component]] = {
    "transformer": Component.TRANSFORMER,
    "vae": Component.VAE,
    "clip": Component.CLIP,
    "t5": Component.T5,
}
_WORD_OF: Final = {component: word for word, component in COMPONENT_WORDS.items()}
# Where an operator names what is loaded beside a model.
_SETTINGS: Final[Mapping[str, str]] = {
    "a LoRA": "FLUX_ENDPOINT_LORA_DIR",
    KIND_TEXTS[ControlNetPart.CONTROLNET]: "FLUX_ENDPOINT_CONTROLNET_MODEL",
    KIND_TEXTS[ReduxPart.IMAGE_EMBEDDER]: "FLUX_ENDPOINT_REDUX_MODEL",
}
_OTHERS_SHOWN: Final = 3
_COMFY_FOLDERS: Final = ("unet", "diffusion_models", "checkpoints", "vae", "clip", "text_encoders")
# Written by other versions or for other uses of the same encoder, and of no use here.
_UNUSED: Final[Mapping[Component, tuple[str, ...]]] = {
    Component.TRANSFORMER: (),
    Component.VAE: (),
    Component.CLIP: (
        "embeddings.position_ids",
        "text_projection.",
        "logit_scale",
        "vision_model.",
        "visual_projection.",
    ),
    # ComfyUI keeps the two numbers of CLIP for every text encoder.
    Component.T5: ("decoder.", "lm_head.", "spiece_model", "logit_scale", "text_projection."),
}
# T5's words have two names, of which a file may have either, or both.
_WORDS, _WORDS_AGAIN = "shared.", "encoder.embed_tokens."


@dataclass(frozen=True, slots=True)
class Located:
    """A model's files on this machine.

    Attributes:
        folder: where the model is, for people and for what is not in `places`.
        places: the file or the folder of each component.
        configs: of the components that have one beside them.
        others: folders of tokenizers and scheduler by name; what is missing, our package has.
    """

    folder: Path
    places: Mapping[Component, Path]
    configs: Mapping[Component, Path]
    others: Mapping[str, Path]


def locate_folder(folder: Path, family: ModelFamily, given: Mapping[Component, Path], transformer: str) -> Located:
    """The components of a model that is a folder.

    Args:
        folder: in the layout of diffusers, or one with single files, such as ComfyUI's `models`.
        family: which transformer is wanted where there are several.
        given: components that lie elsewhere.
        transformer: name of its folder in the layout of diffusers.

    Raises:
        CheckpointError: a component is missing, or there are two for one place.
    """
    if is_diffusers(folder):
        return _merged(_diffusers(folder, transformer), given)
    if not _weight_files(folder):
        raise CheckpointError(
            f"{folder / INDEX_FILE} is missing, and {folder} has no files that end in {', '.join(WEIGHT_ENDINGS)}"
        )
    if is_component_folder(folder):
        kind = detect(read_folder(folder))
        raise CheckpointError(no_transformer(kind, folder, family))
    return _merged(_single_files(folder, [folder], family, given), given)


def locate_file(file: Path, family: ModelFamily, given: Mapping[Component, Path]) -> Located:
    """The components of a model that is one file: all, or the transformer with the rest in or beside its folder.

    Raises:
        CheckpointError: the file is something else, or the rest cannot be found.
    """
    kind = detect(read_header(file))
    if is_shard(file):
        raise CheckpointError(f"{file} is one of several files that hold one component: name their folder")
    if Component.TRANSFORMER not in kind.components:
        raise CheckpointError(no_transformer(kind, file, family))
    given = {**dict.fromkeys(kind.components, file), **given}
    if len(given) == len(Component):
        return _merged(Located(file.parent, {}, {}, {}), given)
    beside = _diffusers_beside(file)
    if beside is not None:
        located = _diffusers(beside, Component.TRANSFORMER)
        config = located.configs.get(Component.TRANSFORMER)
        merged = _merged(located, given)
        return merged if config is None else _with_config(merged, config)
    root = next((up.parent for up in file.parents if up.name in _COMFY_FOLDERS), file.parent)
    return _merged(_single_files(root, [file.parent, root], family, given), given)


def locate_components(given: Mapping[Component, Path], family: ModelFamily) -> Located:
    """The components of a model that are all named one by one, or lie beside the transformer's file.

    Raises:
        CheckpointError: one is missing.
    """
    if len(given) == len(Component):
        return _merged(Located(given[Component.TRANSFORMER].parent, {}, {}, {}), given)
    if Component.TRANSFORMER not in given or given[Component.TRANSFORMER].is_dir():
        absent = [f"{_WORD_OF[component]}=" for component in Component if component not in given]
        raise CheckpointError(f"it names no {listing(absent, shown=len(absent))}")
    return locate_file(given[Component.TRANSFORMER], family, given)


def read_component(located: Located, component: Component) -> tuple[FileKind, dict[str, TensorHeader]]:
    """What a component's place holds, and the component's tensors under its model's names.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    place = located.places[component]
    headers = read_folder(place) if place.is_dir() else read_header(place)
    kind = detect(headers)
    if len(kind.components) > 1 and component in kind.components:
        headers = split_components(headers)[component]
        kind = detect(headers)
    plain = {unwrapped(name): header for name, header in headers.items()}
    if component is Component.CLIP:
        plain = {name.removeprefix("text_model."): header for name, header in plain.items()}
    if component is Component.VAE:
        names = diffusers_names(plain)
        plain = {names[name]: header for name, header in plain.items()}
    if component is Component.T5:
        for name in [name for name in plain if name.startswith(_WORDS_AGAIN)]:
            plain.setdefault(name.replace(_WORDS_AGAIN, _WORDS), plain.pop(name))
    return kind, {name: header for name, header in plain.items() if not name.startswith(_UNUSED[component])}


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is in the layout of diffusers, perhaps not whole."""
    has_folders = any((folder / component).is_dir() for component in Component if component is not Component.VAE)
    # Who fetched single files of a repository may have got this one, too.
    has_index = (folder / INDEX_FILE).is_file() and (has_folders or not _weight_files(folder))
    return has_index or (folder / Component.T5).is_dir()


def use_of(kind: FileKind, place: Path | str) -> str:
    """How to name what holds components but is not the whole model: `vae=ae.safetensors`."""
    return " ".join(f"{word}={place}" for word, component in COMPONENT_WORDS.items() if component in kind.components)


def no_transformer(kind: FileKind, place: Path, family: ModelFamily) -> str:
    """Why a place does not name a model, and what it is instead."""
    if Component.TRANSFORMER in kind.components:
        return f"{place} is {kind.text} alone: use it as {use_of(kind, place)}"
    setting = f" ({_SETTINGS[kind.text]} takes it)" if kind.text in _SETTINGS else ""
    return f"{place} is {kind.text}{setting}; the endpoint needs a FLUX.1 {family} transformer"


def _merged(located: Located, given: Mapping[Component, Path]) -> Located:
    """With the components that were named one by one in place of those found."""
    configs = {component: file for component, file in located.configs.items() if component not in given}
    for component, place in given.items():
        config = (place if place.is_dir() else place.parent) / "config.json"
        # Beside a file only in a folder of that component: elsewhere it may be of anything.
        if config.is_file() and (place.is_dir() or config.parent.name == component):
            configs[component] = config
    return Located(located.folder, {**located.places, **given}, configs, located.others)


def _with_config(located: Located, config: Path) -> Located:
    return Located(located.folder, located.places, {Component.TRANSFORMER: config, **located.configs}, located.others)


def _diffusers(folder: Path, transformer: str) -> Located:
    places = {
        component: folder / (transformer if component is Component.TRANSFORMER else component)
        for component in Component
    }
    configs = {component: place / "config.json" for component, place in places.items()}
    # The transformer's folder may be left out where a file replaces it; the others must be whole.
    if not configs[Component.TRANSFORMER].is_file() and not places[Component.TRANSFORMER].is_dir():
        del configs[Component.TRANSFORMER]
    others = {name: folder / name for name in (*TOKENIZERS, SCHEDULER)}
    return Located(folder, places, configs, others)


def _diffusers_beside(file: Path) -> Path | None:
    """The folder in the layout of diffusers at, above or beside a lone transformer file."""
    near = [file.parent, file.parent.parent, *sorted(path for path in file.parent.iterdir() if path.is_dir())]
    found = [folder for folder in near if (folder / Component.VAE).is_dir() and (folder / Component.T5).is_dir()]
    if len(found) > 1:
        raise CheckpointError(
            f"the rest of the model may be in {listing([str(folder) for folder in found])}: name its components, "
            f"such as transformer={file} vae=... clip=... t5=..."
        )
    return found[0] if found else None


def _single_files(root: Path, near: Iterable[Path], family: ModelFamily, given: Mapping[Component, Path]) -> Located:
    """Look for one file for each component that is not given."""
    wanted = [component for component in Component if component not in given]
    found: dict[Component, list[Path]] = {component: [] for component in wanted}
    kinds: dict[Path, FileKind] = {}
    unreadable = []
    for file in dict.fromkeys(file for folder in near for file in _weight_files(folder)):
        try:
            kind = kinds[file] = detect(read_header(file))
        except CheckpointError as error:
            unreadable.append(str(error))
            continue
        for component in kind.components & found.keys():
            if component is not Component.TRANSFORMER or kind.family is family.by_tensors:
                found[component].append(file)
    for component, files in found.items():
        # A file of its own is meant to be used instead of what an all-in-one checkpoint has.
        whole = set(found.get(Component.TRANSFORMER, ())) if component is not Component.TRANSFORMER else set()
        alone = [file for file in files if file not in whole] or files
        others = [
            f"{file.relative_to(root) if file.is_relative_to(root) else file} is {kind.text}"
            for file, kind in kinds.items()
            if component is Component.TRANSFORMER or not kind.components
        ]
        _check_one(root, component, alone, family, unreadable + others)
        found[component] = alone
    tokenizers = {name: root / name for name in TOKENIZERS if (root / name).is_dir()}
    return Located(root, {component: files[0] for component, files in found.items()}, {}, tokenizers)


def _check_one(root: Path, component: Component, files: list[Path], family: ModelFamily, others: list[str]) -> None:
    text = KIND_TEXTS[component].replace("FLUX.1", f"FLUX.1 {family}")
    if len(files) > 1:
        names = listing([str(file) for file in files])
        raise CheckpointError(
            f"there are {len(files)} files that are {text}: {names}; name one: {_WORD_OF[component]}=FILE"
        )
    if not files:
        also = f" ({'; '.join(others[:_OTHERS_SHOWN])})" if others else ""
        raise CheckpointError(f"there is no file in {root} that is {text}; name one: {_WORD_OF[component]}=FILE{also}")


def _weight_files(folder: Path) -> list[Path]:
    """In the folder itself, and in those that ComfyUI has for components of models."""
    inner = [root / name for root in (folder, folder / "models") for name in _COMFY_FOLDERS]
    files: Iterator[Path] = iter(folder.glob("*"))
    deeper = (file for place in inner if place.is_dir() for file in place.rglob("*"))
    both = {file for group in (files, deeper) for file in group}
    return sorted(file for file in both if file.suffix.lower() in WEIGHT_ENDINGS and file.is_file())
