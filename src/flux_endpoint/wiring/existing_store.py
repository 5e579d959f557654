"""The store of a server that runs or has run, for commands beside it."""

import contextlib
from collections.abc import AsyncIterator

from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings import Settings
from flux_endpoint.stores.connect import open_store
from flux_endpoint.stores.jobs.store import SqlStore


@contextlib.asynccontextmanager
async def open_existing_store(settings: Settings) -> AsyncIterator[SqlStore]:
    """Open the store until the block ends.

    Raises:
        SettingsError: no server has made a database there yet.
        StoreUnavailable: the database does not answer.
    """
    if settings.database_url is None and not settings.database_file.exists():
        # A key in a database that no server reads would look as good as any other.
        raise SettingsError(
            f"no server has used DATA_DIR {settings.data_dir} yet; name the right one with --data-dir, or start it once"
        )
    store = await open_store(settings.resolved_database_url, SystemClock())
    try:
        yield store
    finally:
        await store.close()
