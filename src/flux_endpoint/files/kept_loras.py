"""The LoRA files that were fetched from elsewhere: kept by their content, and pinned to where they came from."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux_endpoint.core.lora_places import told_name

_READ_BYTES: Final = 1 << 20
_ENDING: Final = ".safetensors"
# Of where files came from: some 300 bytes each.
_MAX_PINS: Final = 10_000
# A draft that is so old was left behind by a process that was killed.
_DRAFT_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Pin:
    """What was found at a place when it was first asked for.

    Attributes:
        sha256: of the file.
        revision: the commit of the hub's repository that it is of; empty elsewhere.
        others: of files that were fetched from there later, each asked for by its hash, and their revisions.
    """

    sha256: str
    revision: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """The revision of each file that was there, by its hash."""
        return {self.sha256: self.revision, **dict(self.others)}


class KeptLoras:
    """A folder of LoRA files by their hashes. Several processes may share it: a file is complete, or not there.

    Args:
        folder: made when something is kept.
        limit_bytes: of all files; those that were used last stay. The newest stays whatever it takes.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def file(self, sha256: str) -> Path | None:
        """The file of that hash, which counts as used now; None where it is not kept."""
        file = self._folder / (sha256 + _ENDING)
        try:
            # The time of the last change stays: by that others know that they have read this file.
            os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
        except FileNotFoundError:
            return None
        return file

    def files(self) -> Sequence[Path]:
        """All that is kept, the one used last at the end."""
        return [file for _, _, file in sorted(self._sizes())]

    def pin(self, place: str) -> Pin | None:
        """What is known of a place; None when nothing was ever fetched from there."""
        try:
            fields = json.loads(self._pin_file(place).read_text())
        except FileNotFoundError:
            return None
        return Pin(fields["sha256"], fields["revision"], tuple((one, other) for one, other in fields["others"]))

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Path]:
        """A new file to write to, gone at the end of the block unless it was kept.

        Args:
            name: of the file, without a folder.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="draft-", dir=self._folder))
        try:
            yield folder / name
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, draft: Path, sha256: str) -> Path:
        """Take a draft in, and let others go until all fit.

        Args:
            draft: complete.
            sha256: of it.
        """
        file = self._folder / (sha256 + _ENDING)
        draft.replace(file)
        self._make_room(file)
        return file

    def note(self, place: str, sha256: str, revision: str = "") -> None:
        """Pin a file to where it came from: the first one to the place, later ones to their hashes."""
        known = self.pin(place)
        if known is None:
            known = Pin(sha256, revision)
        elif sha256 not in known.versions:
            known = Pin(known.sha256, known.revision, (*known.others, (sha256, revision)))
        else:
            return
        file = self._pin_file(place)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fields = {"place": told_name(place), "sha256": known.sha256, "revision": known.revision, "others": known.others}
        descriptor, draft = tempfile.mkstemp(dir=self._folder, prefix="draft-")
        with os.fdopen(descriptor, "w") as stream:
            json.dump(fields, stream)
        Path(draft).replace(file)

    def _pin_file(self, place: str) -> Path:
        # A URL may hold a secret, and is no name of a file.
        return self._folder / "places" / f"{hashlib.sha256(place.encode()).hexdigest()}.json"

    def _make_room(self, newest: Path) -> None:
        sizes = sorted(self._sizes())
        total = sum(size for _, size, _ in sizes)
        for _, size, file in sizes:
            if total > self._limit_bytes and file != newest:
                file.unlink(missing_ok=True)
                total -= size
        pins = sorted((self._folder / "places").glob("*.json"), key=_age_of)
        for pin in pins[: max(0, len(pins) - _MAX_PINS)]:
            pin.unlink(missing_ok=True)
        for draft in self._folder.glob("draft-*"):
            if time.time() - _age_of(draft) > _DRAFT_S:
                shutil.rmtree(draft, ignore_errors=True)

    def _sizes(self) -> Iterator[tuple[int, int, Path]]:
        for file in self._folder.glob("*" + _ENDING):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                yield stat.st_atime_ns, stat.st_size, file


def hash_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits; raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _age_of(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return time.time()
