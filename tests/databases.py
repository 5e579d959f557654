"""Empty SQLite databases, made by the migrations once and copied since: they take a fifth of a second each time."""

import atexit
import shutil
import tempfile
from pathlib import Path

from flux_endpoint.core.clock import SystemClock
from flux_endpoint.stores.connect import open_stores

_FOLDER = tempfile.TemporaryDirectory(prefix="empty-database-")
_EMPTY = Path(_FOLDER.name) / "jobs.db"
atexit.register(_FOLDER.cleanup)


async def copy_empty_database(file: Path) -> None:
    """Make an empty database that is up to date."""
    if not _EMPTY.exists():
        stores = await open_stores(f"sqlite:///{_EMPTY}", SystemClock())
        await stores.close()
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_EMPTY, file)
