"""Where a model's files are: embedded, on the hub, in a folder, in a single file, or in several."""

import importlib.resources
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import constants, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.inputs import reads_image_prompts
from flux_endpoint.engine.add_ons import NO_ADD_ONS, AddOns
from flux_endpoint.engine.components import (
    COMPONENT_WORDS,
    INDEX_FILE,
    Located,
    locate_components,
    locate_file,
    locate_folder,
)
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.headers import WEIGHT_ENDINGS, read_json
from flux_endpoint.engine.report import LocalModel
from flux_endpoint.engine.trouble import reading
from flux_endpoint.engine.variants import PIPELINES, Variant

DEMO: Final = "demo"
# Has what FLUX.1's single files come without: tokenizers.
FLUX1: Final = "flux1"
TRANSFORMER_CONFIG: Final = f"{Component.TRANSFORMER}/config.json"
# The embedded model is two: text encoders and autoencoder serve both of its transformers.
DEMO_SCHNELL_TRANSFORMER: Final = "transformer_schnell"
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMPONENT_FOLDERS: Final = (*Component, "scheduler", "tokenizer", "tokenizer_2")
_KIND: Final = "kind"
_LORA: Final = "lora"
_WORDS: Final = (*COMPONENT_WORDS, _KIND, _LORA)
_HAS_WORDS: Final = re.compile(rf"(^|\s)({'|'.join(_WORDS)})=")
# The repositories also hold the same weights in another layout, twice the download for nothing.
_HUB_FILES: Final = (
    INDEX_FILE,
    *(f"{folder}/*{ending}" for folder in _COMPONENT_FOLDERS for ending in (".json", ".txt", ".model", ".safetensors")),
)


class SourceKind(Enum):
    """The ways to name a model."""

    DEMO = auto()
    HUB = auto()
    FOLDER = auto()
    FILE = auto()
    COMPONENTS = auto()


@dataclass(frozen=True, slots=True)
class Source:
    """A model as the operator named it.

    Attributes:
        text: as given.
        name: short, without folders: as written into pictures.
        base: what it is before components are replaced: `demo`, a hub id, a folder, a file; empty for COMPONENTS.
        components: places of those that were named.
        variant: what the operator says that it is; None if nothing was said.
        add_ons: what is loaded beside it.
        lora: file of a control LoRA, which is merged into the model and makes it one that draws along maps.
    """

    kind: SourceKind
    text: str
    name: str
    base: str
    components: Mapping[Component, Path] = field(default_factory=dict)
    variant: Variant | None = None
    add_ons: AddOns = NO_ADD_ONS
    lora: Path | None = None

    def family_in_files(self, family: ModelFamily) -> ModelFamily:
        """The family whose transformer its files must hold for an endpoint of a family: dev's beside a control LoRA."""
        return family if self.lora is None else ModelFamily.DEV


def parse_source(text: str) -> Source:
    """Tell what a text names: one place, perhaps followed by words such as `vae=FILE`, `kind=krea` and `lora=FILE`.

    A folder that exists wins over a hub id.

    Raises:
        CheckpointError: it names none.
    """
    base, words = _split(text)
    components = {
        COMPONENT_WORDS[word]: Path(place).expanduser() for word, place in words.items() if word in COMPONENT_WORDS
    }
    lora = Path(words[_LORA]).expanduser() if _LORA in words else None
    absent = next((place for place in components.values() if not place.exists()), None)
    if absent is not None:
        raise CheckpointError(f"Model {text}: {absent}: no such file or folder")
    if lora is not None and not lora.is_file():
        raise CheckpointError(f"Model {text}: {lora}: no such file; lora= takes a file on this machine")
    variant = _variant(text, words)
    if not base and components:
        place = components.get(Component.TRANSFORMER, next(iter(components.values())))
        kind, name = SourceKind.COMPONENTS, place.stem if place.is_file() else place.name
    else:
        kind, name = _kind_and_name(base, text)
    if lora is not None:
        name = f"{name} + {lora.stem}"
    return Source(kind, text, name, base, components, variant, lora=lora)


def with_add_ons(source: Source, family: ModelFamily, add_ons: AddOns) -> Source:
    """The source with those things beside it that the model can use.

    Args:
        source: of the model.
        family: of the endpoint.
        add_ons: all that there are.
    """
    if source.kind is SourceKind.DEMO:
        return source
    redux = add_ons.redux if reads_image_prompts(family) else None
    controlnet = add_ons.controlnet if family.takes_controlnet else None
    return replace(source, add_ons=AddOns(redux, controlnet))


def _kind_and_name(base: str, text: str) -> tuple[SourceKind, str]:
    if base == DEMO:
        return SourceKind.DEMO, DEMO
    path = Path(base).expanduser()
    if base and path.is_dir():
        return SourceKind.FOLDER, path.resolve().name
    if base.lower().endswith(WEIGHT_ENDINGS) or (base and path.is_file()):
        return SourceKind.FILE, path.stem
    if HUB_ID.fullmatch(base):
        return SourceKind.HUB, base
    raise CheckpointError(
        f"Model {text}: no such folder, and neither `demo`, a Hugging Face id such as black-forest-labs/FLUX.1-dev "
        "nor a file of weights"
    )


def _split(text: str) -> tuple[str, dict[str, str]]:
    """The place and the words behind it; a place may have spaces as long as there are no words."""
    if not _HAS_WORDS.search(text) or Path(text).expanduser().exists():
        return text, {}
    base, words = "", {}
    try:
        pieces = shlex.split(text)
    except ValueError as error:
        raise CheckpointError(f"Model {text}: {error}") from None
    for piece in pieces:
        word, has_value, value = piece.partition("=")
        if has_value and word in _WORDS:
            words[word] = value
        elif base:
            raise CheckpointError(f"Model {text}: it names two places, {base} and {piece}; quote what has spaces")
        else:
            base = piece
    return base, words


def _variant(text: str, words: Mapping[str, str]) -> Variant | None:
    if _KIND not in words:
        return None
    try:
        return Variant(words[_KIND])
    except ValueError:
        raise CheckpointError(f"Model {text}: {_KIND}= is one of {', '.join(Variant)}") from None


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Put the model's name before whatever is wrong with it, in one line also where nobody foresaw it."""
    try:
        with reading("it"):
            yield
    except CheckpointError as error:
        raise CheckpointError(f"Model {source.text}: {error}") from error


def locate(source: Source, family: ModelFamily, *, download: bool) -> Located:
    """Find a model's files, fetching them from the hub first where they are missing.

    Args:
        source: what to look for.
        family: which of the embedded model's two transformers; every other source has one.
        download: whether the hub may be asked; otherwise only what was downloaded before is used.

    Raises:
        CheckpointError: they are not there and could not be fetched.
    """
    with naming(source):
        if source.lora is not None and not family.reads_map:
            raise CheckpointError(
                "lora= takes a control LoRA, for FLUX_ENDPOINT_CANNY_MODEL and FLUX_ENDPOINT_DEPTH_MODEL; LoRAs that "
                "requests name lie in FLUX_ENDPOINT_LORA_DIR"
            )
        family = source.family_in_files(family)
        match source.kind:
            case SourceKind.DEMO:
                is_schnell = family is ModelFamily.SCHNELL
                transformer = DEMO_SCHNELL_TRANSFORMER if is_schnell else Component.TRANSFORMER
                return locate_folder(_demo_folder(), family, source.components, transformer)
            case SourceKind.HUB:
                folder = hub_folder(source.base, _HUB_FILES, download=download)
                return locate_folder(folder, family, source.components, Component.TRANSFORMER)
            case SourceKind.FOLDER:
                return locate_folder(Path(source.base).expanduser(), family, source.components, Component.TRANSFORMER)
            case SourceKind.FILE:
                file = Path(source.base).expanduser()
                if not file.is_file():
                    raise CheckpointError("no such file")
                return locate_file(file, family, source.components)
            case SourceKind.COMPONENTS:
                return locate_components(source.components, family)


def fetch_kind(source: Source) -> Path:
    """Fetch only the two small files that tell what kind of model a hub id names.

    Returns:
        The folder they are in.

    Raises:
        CheckpointError: they could not be fetched.
    """
    with naming(source):
        return hub_folder(source.base, (INDEX_FILE, TRANSFORMER_CONFIG), download=True)


def list_local_models() -> list[LocalModel]:
    """The embedded model and the complete-looking FLUX repositories in the hub's cache on this machine."""
    models = []
    demo = _demo_folder()
    if (demo / INDEX_FILE).is_file():
        size_bytes = sum(file.stat().st_size for file in demo.rglob("*") if file.is_file())
        models.append(LocalModel(DEMO, str(demo), size_bytes))
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return models
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        for revision in repository.revisions:
            if _is_flux(revision.snapshot_path) and "main" in revision.refs:
                models.append(LocalModel(repository.repo_id, str(revision.snapshot_path), revision.size_on_disk))
    return models


def _is_flux(folder: Path) -> bool:
    index = folder / INDEX_FILE
    return index.is_file() and read_json(index).get("_class_name") in PIPELINES


def packaged_folder(name: str) -> Path:
    """One of the folders of models that our package has."""
    return Path(str(importlib.resources.files("flux_endpoint"))) / "models" / name


def _demo_folder() -> Path:
    return packaged_folder(DEMO)


def hub_folder(hub_id: str, patterns: tuple[str, ...], *, download: bool) -> Path:
    """The files of a repository on the hub.

    Args:
        hub_id: of the repository.
        patterns: of the files that are needed.
        download: whether the hub may be asked; otherwise only what was downloaded before is used.

    Raises:
        CheckpointError: they are not there and could not be fetched.
    """
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns), local_files_only=not download))
    except GatedRepoError:
        problem = (
            f"its authors ask you to accept a licence first: open https://huggingface.co/{hub_id}, accept, "
            "and set HF_TOKEN to a token of that account"
        )
    except RepositoryNotFoundError:
        problem = "the Hugging Face hub has no such model, or HF_TOKEN may not see it"
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        problem = (
            "it is not on this machine and the Hugging Face hub cannot be reached"
            if download
            else "it has not been downloaded to this machine yet"
        )
    except HfHubHTTPError as error:
        problem = f"the Hugging Face hub answered HTTP {error.response.status_code}"
    except (httpx2.HTTPError, OSError) as error:
        problem = f"the download broke off ({type(error).__name__}: {error}); starting again resumes it"
    raise CheckpointError(problem)
