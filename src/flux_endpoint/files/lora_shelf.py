"""The LoRA files of a folder, by name, and those that come with the package."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import CheckpointError, SettingsError
from flux_endpoint.core.lora import FoundLora, Lora
from flux_endpoint.core.lora_places import ENDINGS, NOWHERE, LoraSources, hub_file, is_url, told_name
from flux_endpoint.core.text import listing
from flux_endpoint.files.kept_loras import KeptLoras, hash_of
from flux_endpoint.files.lora_outline import outline, width_of
from flux_endpoint.files.lora_scales import PEFT_FILE

_EMBEDDED: Final = Path(__file__).parent.parent / "models" / "loras"
_EMBEDDED_WIDTH: Final = 192


@dataclass(frozen=True, slots=True)
class _Known:
    """A file as it was when it was read; None is no problem."""

    stamp: tuple[int, int]
    sha256: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class FolderShelf:
    """LoRAs by their names below some folders: `film`, `film.safetensors`, `portraits/film`. Implements `LoraShelf`.

    A file is read once, and again when it has changed.

    Attributes:
        folders: where they are; names in an earlier one win.
        width: of the model that they are for; None where it is not known here, and the worker tells.
        kept: files that were fetched from elsewhere; None where nothing is.
        sources: where they may be fetched from.
    """

    folders: tuple[Path, ...]
    width: int | None = None
    kept: KeptLoras | None = None
    sources: LoraSources = NOWHERE
    _known: dict[Path, _Known] = field(default_factory=dict, compare=False)

    def find(self, name: str, sha256: str = "") -> FoundLora | None:
        """See `LoraShelf.find`. A file of the folders wins over one elsewhere."""
        file = None if is_url(name) else self._file_here(name)
        if file is not None:
            return FoundLora(self._read(file).sha256)
        if not is_url(name) and hub_file(name) is None:
            raise self._is_missing(name)
        try:
            self.sources.check(name)
        except CheckpointError as error:
            raise CheckpointError(f"{error}" if is_url(name) else f"{self._is_missing(name)}, and {error}") from None
        return self._found_kept(name, sha256)

    def file_of(self, lora: Lora) -> Path:
        """The file of a LoRA that was looked up, here or on another machine.

        Raises:
            CheckpointError: there is none of that name, it cannot be applied, or it is another file.
        """
        kept = self.kept.file(lora.sha256) if self.kept and lora.is_fetched else None
        if kept is None and lora.is_fetched:
            raise CheckpointError(f"the LoRA '{told_name(lora.path)}' was not fetched to this machine")
        file = kept or self._file_here(lora.path)
        if file is None:
            raise self._is_missing(lora.path)
        sha256 = self._read(file, told_name(lora.path) if kept else None).sha256
        if sha256 != lora.sha256:
            raise CheckpointError(
                f"the LoRA '{told_name(lora.path)}' on this machine is another file than the one that was asked for "
                f"({sha256[:12]} instead of {lora.sha256[:12]})"
            )
        return file

    @property
    def names(self) -> list[str]:
        """See `LoraShelf.names`."""
        return [name for name, _ in self.files()]

    def files(self) -> Iterator[tuple[str, Path]]:
        """All names and their files, those too that cannot be applied."""
        seen = set()
        for folder in self.folders:
            for file in sorted(folder.rglob("*")):
                if file.suffix.lower() in ENDINGS and file.is_file():
                    place = file.parent if file.name == PEFT_FILE else file.with_suffix("")
                    name = place.relative_to(folder).as_posix()
                    if name not in seen and name != ".":
                        seen.add(name)
                        yield name, file

    def look_at_all(self) -> None:
        """Read what is new, so that no request waits until a large file has been hashed."""
        kept = self.kept.files() if self.kept else ()
        for file in (*(file for _, file in self.files()), *kept):
            with contextlib.suppress(CheckpointError):
                self._read(file)

    def _found_kept(self, name: str, sha256: str) -> FoundLora | None:
        pin = self.kept.pin(name) if self.kept else None
        if pin is None or (sha256 and sha256 not in pin.versions):
            return None
        file = self.kept.file(sha256 or pin.sha256) if self.kept else None
        return None if file is None else FoundLora(self._read(file, told_name(name)).sha256, is_fetched=True)

    def _file_here(self, name: str) -> Path | None:
        """The file of a name in the folders; None for none."""
        parts = Path(name).parts
        # A name is a way down, whatever links there are: nobody finds out what lies elsewhere.
        if not parts or ".." in parts or Path(name).is_absolute() or "\\" in name:
            raise CheckpointError(f"'{name}' is no name of a LoRA")
        for folder in self.folders:
            for file in _candidates(folder / name):
                if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
                    return file
        return None

    def _is_missing(self, name: str) -> CheckpointError:
        return CheckpointError(f"there is no LoRA '{name}' here; there are {listing(self.names, 10) or 'none'}")

    def _read(self, file: Path, called: str | None = None) -> _Known:
        """What is known of a file, which errors name as it is called."""
        try:
            stat = file.stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {file.name}: {error.strerror}") from error
        stamp = stat.st_mtime_ns, stat.st_size
        known = self._known.get(file)
        if known is None or known.stamp != stamp:
            known = self._known[file] = _look_at(file, stamp, self.width)
        if known.problem is not None:
            raise CheckpointError(known.problem.replace(file.name, called or file.name))
        return known


def shelf_of(
    lora_dir: Path | None, *, is_embedded: bool, kept: KeptLoras | None = None, sources: LoraSources = NOWHERE
) -> FolderShelf:
    """The LoRAs that requests of one endpoint may name.

    Args:
        lora_dir: the operator's folder; None for none.
        is_embedded: whether the model is the embedded one, for which the package has some.
        kept: see `FolderShelf`.
        sources: see `FolderShelf`.

    Raises:
        SettingsError: there is no such folder.
    """
    if lora_dir is not None and not lora_dir.is_dir():
        raise SettingsError(f"setting FLUX_ENDPOINT_LORA_DIR (option --lora-dir) names no folder: {lora_dir}")
    own = () if lora_dir is None else (lora_dir,)
    if is_embedded:
        return FolderShelf((*own, _EMBEDDED), _EMBEDDED_WIDTH, kept, sources)
    return FolderShelf(own, None, kept, sources)


def _candidates(place: Path) -> Iterator[Path]:
    if place.suffix.lower() in ENDINGS:
        yield place
    for ending in ENDINGS:
        yield place.with_name(place.name + ending)
    yield place / PEFT_FILE


def _look_at(file: Path, stamp: tuple[int, int], width: int | None) -> _Known:
    try:
        found = width_of(outline(file))
        if width and found and width != found:
            raise CheckpointError(f"{file.name} is made for another model, {found} wide; this one is {width} wide")
        return _Known(stamp, hash_of(file), None)
    except CheckpointError as error:
        return _Known(stamp, "", str(error))
    except OSError as error:
        return _Known(stamp, "", f"cannot read {file.name}: {error.strerror}")
