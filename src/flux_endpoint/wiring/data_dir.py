"""The data folder: one server at a time, and the secrets it keeps there."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.stores.sql.private import PRIVATE_FILE, PRIVATE_FOLDER, make_private

# All that we put there.
_OURS: Final = ("lock", "node-id", "api-key", "worker-token", "images", "loras", "flux-endpoint.db*")


@contextlib.contextmanager
def hold_data_dir(folder: Path) -> Iterator[None]:
    """Make the folder where needed and keep other servers out of it until the block ends.

    What is ours there becomes private, the folder itself only when it holds nothing else: it may be a place of many.
    The system itself lets go of the folder when the process dies, however it dies.

    Raises:
        SettingsError: another server uses it, or it cannot be written.
    """
    try:
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        ours = {path for pattern in _OURS for path in folder.glob(pattern)}
        for path in (*ours, *([folder] if ours.issuperset(folder.iterdir()) else [])):
            make_private(path)
    except OSError as error:
        raise SettingsError(f"DATA_DIR {folder} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise SettingsError(f"another server (pid {pid}) already uses DATA_DIR {folder}") from None
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise SettingsError(f"DATA_DIR {folder} cannot be written: {error.strerror}") from None
        yield
    finally:
        os.close(descriptor)


def keep_secret(file: Path, draw: Callable[[], str]) -> tuple[str, bool]:
    """The secret in a file that only its owner can read; drawn and written when there is none.

    Returns:
        The secret, and whether it was drawn just now.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    try:
        if file.exists() and (secret := file.read_text().strip()):
            return secret, False
        secret = draw()
        # Written beside and renamed: a crash leaves no half secret, and no moment in which others could read it.
        draft = file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.touch(PRIVATE_FILE, exist_ok=False)
        draft.write_text(secret + "\n")
        draft.replace(file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read or written: {error.strerror}") from None
    return secret, True
