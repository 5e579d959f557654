"""The LoRA files of a folder, by name, and those that come with the package."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import CheckpointError, SettingsError
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.text import listing
from flux_endpoint.files.lora_outline import outline, width_of
from flux_endpoint.files.lora_scales import PEFT_FILE

ENDINGS: Final = (".safetensors", ".sft")
_EMBEDDED: Final = Path(__file__).parent.parent / "models" / "loras"
_EMBEDDED_WIDTH: Final = 192
_READ_BYTES: Final = 1 << 20


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
    """

    folders: tuple[Path, ...]
    width: int | None = None
    _known: dict[Path, _Known] = field(default_factory=dict, compare=False)

    def sha256_of(self, name: str) -> str:
        """See `LoraShelf.sha256_of`."""
        return self._read(self._file(name)).sha256

    def file_of(self, lora: Lora) -> Path:
        """The file of a LoRA that was looked up, here or on another machine.

        Raises:
            CheckpointError: there is none of that name, it cannot be applied, or it is another file.
        """
        file = self._file(lora.path)
        sha256 = self._read(file).sha256
        if sha256 != lora.sha256:
            raise CheckpointError(
                f"the LoRA '{lora.path}' on this machine is another file than the one that was asked for "
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
        for _, file in self.files():
            with contextlib.suppress(CheckpointError):
                self._read(file)

    def _file(self, name: str) -> Path:
        if "://" in name:
            raise CheckpointError(f"'{name}' is a URL; LoRAs are named as they lie in this server's folder of LoRAs")
        parts = Path(name).parts
        # A name is a way down, whatever links there are: nobody finds out what lies elsewhere.
        if not parts or ".." in parts or Path(name).is_absolute() or "\\" in name:
            raise CheckpointError(f"'{name}' is no name of a LoRA")
        for folder in self.folders:
            for file in _candidates(folder / name):
                if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
                    return file
        raise CheckpointError(f"there is no LoRA '{name}' here; there are {listing(self.names, 10) or 'none'}")

    def _read(self, file: Path) -> _Known:
        try:
            stat = file.stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {file.name}: {error.strerror}") from error
        stamp = stat.st_mtime_ns, stat.st_size
        known = self._known.get(file)
        if known is None or known.stamp != stamp:
            known = self._known[file] = _look_at(file, stamp, self.width)
        if known.problem is not None:
            raise CheckpointError(known.problem)
        return known


def shelf_of(lora_dir: Path | None, *, is_embedded: bool) -> FolderShelf:
    """The LoRAs that requests of one endpoint may name.

    Args:
        lora_dir: the operator's folder; None for none.
        is_embedded: whether the model is the embedded one, for which the package has some.

    Raises:
        SettingsError: there is no such folder.
    """
    if lora_dir is not None and not lora_dir.is_dir():
        raise SettingsError(f"setting FLUX_ENDPOINT_LORA_DIR (option --lora-dir) names no folder: {lora_dir}")
    own = () if lora_dir is None else (lora_dir,)
    return FolderShelf((*own, _EMBEDDED), _EMBEDDED_WIDTH) if is_embedded else FolderShelf(own)


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
        return _Known(stamp, _hash(file), None)
    except CheckpointError as error:
        return _Known(stamp, "", str(error))
    except OSError as error:
        return _Known(stamp, "", f"cannot read {file.name}: {error.strerror}")


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
