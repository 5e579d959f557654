"""Where a model's files are: embedded, on the hub, in a folder, or a single file beside a folder."""

import importlib.resources
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

import httpx
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
from flux_endpoint.engine.headers import listing
from flux_endpoint.engine.report import LocalModel
from flux_endpoint.engine.trouble import reading

DEMO: Final = "demo"
INDEX_FILE: Final = "model_index.json"
TRANSFORMER: Final = "transformer"
TRANSFORMER_CONFIG: Final = f"{TRANSFORMER}/config.json"
# The embedded model is two: text encoders and autoencoder serve both of its transformers.
DEMO_SCHNELL_TRANSFORMER: Final = "transformer_schnell"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PART_FOLDERS: Final = (
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    TRANSFORMER,
    "vae",
)
# The repositories also hold the same weights in another layout, twice the download for nothing.
_HUB_FILES: Final = (
    INDEX_FILE,
    *(f"{folder}/*{ending}" for folder in _PART_FOLDERS for ending in (".json", ".txt", ".model", ".safetensors")),
)


class SourceKind(Enum):
    """The four ways to name a model."""

    DEMO = auto()
    HUB = auto()
    FOLDER = auto()
    FILE = auto()


@dataclass(frozen=True, slots=True)
class Source:
    """A model as the operator named it.

    Attributes:
        text: as given.
        name: short, without folders: as written into pictures.
    """

    kind: SourceKind
    text: str
    name: str


@dataclass(frozen=True, slots=True)
class Located:
    """A model's files on this machine.

    Attributes:
        folder: in the layout of diffusers; may lack the transformer's weights when there is a file for them.
        transformer_file: replaces the folder's transformer weights; None to use those.
        transformer_name: of the folder in `folder` that holds the transformer.
    """

    folder: Path
    transformer_file: Path | None = None
    transformer_name: str = TRANSFORMER

    @property
    def transformer_folder(self) -> Path:
        """Where the transformer's config is, and its weights if no file replaces them."""
        return self.folder / self.transformer_name


def parse_source(text: str) -> Source:
    """Tell which kind of source a text names. A folder that exists wins over a hub id.

    Raises:
        CheckpointError: it names none.
    """
    if text == DEMO:
        return Source(SourceKind.DEMO, text, DEMO)
    path = Path(text).expanduser()
    if text.endswith(".safetensors"):
        return Source(SourceKind.FILE, text, path.stem)
    if text and path.is_dir():
        return Source(SourceKind.FOLDER, text, path.resolve().name)
    if _HUB_ID.fullmatch(text):
        return Source(SourceKind.HUB, text, text)
    raise CheckpointError(
        f"Model {text}: no such folder, and neither `demo`, a Hugging Face id such as black-forest-labs/FLUX.1-dev "
        "nor a .safetensors file"
    )


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
    match source.kind:
        case SourceKind.DEMO:
            is_schnell = family is ModelFamily.SCHNELL
            return Located(_demo_folder(), transformer_name=DEMO_SCHNELL_TRANSFORMER if is_schnell else TRANSFORMER)
        case SourceKind.HUB:
            return Located(_hub_folder(source.text, _HUB_FILES, download=download))
        case SourceKind.FOLDER:
            return Located(Path(source.text).expanduser())
        case SourceKind.FILE:
            file = Path(source.text).expanduser()
            if not file.is_file():
                raise CheckpointError(f"Model {source.text}: no such file")
            return Located(_folder_beside(file, source.text), file)


def fetch_kind(source: Source) -> Path:
    """Fetch only the two small files that tell what kind of model a hub id names.

    Returns:
        The folder they are in.

    Raises:
        CheckpointError: they could not be fetched.
    """
    return _hub_folder(source.text, (INDEX_FILE, TRANSFORMER_CONFIG), download=True)


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
    return index.is_file() and '"FluxPipeline"' in index.read_text("utf-8")


def _demo_folder() -> Path:
    return Path(str(importlib.resources.files("flux_endpoint"))) / "models" / DEMO


def _hub_folder(hub_id: str, patterns: tuple[str, ...], *, download: bool) -> Path:
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
    except (httpx.HTTPError, OSError) as error:
        problem = f"the download broke off ({type(error).__name__}: {error}); starting again resumes it"
    raise CheckpointError(f"Model {hub_id}: {problem}")


def _folder_beside(file: Path, text: str) -> Path:
    """The folder with the text encoders, tokenizers, autoencoder and scheduler for a lone transformer file."""
    near = [file.parent, file.parent.parent, *sorted(path for path in file.parent.iterdir() if path.is_dir())]
    found = [folder for folder in near if (folder / "vae").is_dir() and (folder / "text_encoder_2").is_dir()]
    if len(found) != 1:
        problem = "none does" if not found else f"{listing([str(folder) for folder in found])} do"
        raise CheckpointError(
            f"Model {text}: a single file holds the transformer only, so exactly one folder at, above or beside it "
            f"must hold vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2 and scheduler; {problem}"
        )
    return found[0]
