"""API keys from the command line: `flux-endpoint keys`. Works beside a running server.

Every function raises `SettingsError` where no server has made a database yet, and `StoreUnavailable` when it does not
answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.errors import NotFound, SettingsError
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.settings import Settings
from flux_endpoint.stores.connect import open_store


def create_key(settings: Settings, name: str) -> tuple[ApiKey, str]:
    """Make a key. Returns it and its secret, which cannot be read again."""

    async def work() -> tuple[ApiKey, str]:
        async with _accounts(settings) as accounts:
            return await accounts.create(name)

    return asyncio.run(work())


def list_keys(settings: Settings) -> Sequence[ApiKey]:
    """All keys, revoked ones too, oldest first."""

    async def work() -> Sequence[ApiKey]:
        async with _accounts(settings) as accounts:
            return await accounts.list()

    return asyncio.run(work())


def revoke_key(settings: Settings, key_id: str) -> None:
    """Make a key useless from now on.

    Raises:
        NotFound: there is none of that id.
    """

    async def work() -> bool:
        async with _accounts(settings) as accounts:
            return await accounts.revoke(key_id)

    if not asyncio.run(work()):
        raise NotFound(f"there is no API key with the id '{key_id}'; see flux-endpoint keys list")


@contextlib.asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[Accounts]:
    if settings.database_url is None and not settings.database_file.exists():
        # A key in a database that no server reads would look as good as any other.
        raise SettingsError(
            f"no server has used DATA_DIR {settings.data_dir} yet; name the right one with --data-dir, or start it once"
        )
    clock = SystemClock()
    store = await open_store(settings.resolved_database_url, clock)
    try:
        yield Accounts(store, clock)
    finally:
        await store.close()
