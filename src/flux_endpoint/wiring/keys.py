"""API keys from the command line: `flux-endpoint keys`. Works beside a running server.

Every function raises `SettingsError` where no server has made a database yet, and `StoreUnavailable` when it does not
answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

from flux_endpoint.core.account import ApiKey, KeyLimits
from flux_endpoint.core.errors import NotFound
from flux_endpoint.core.pricing import units_to_usd
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.settings import Settings
from flux_endpoint.wiring.existing_store import open_existing_store


def create_key(settings: Settings, name: str, limits: KeyLimits) -> tuple[ApiKey, str]:
    """Make a key. Returns it and its secret, which cannot be read again."""

    async def work() -> tuple[ApiKey, str]:
        async with _accounts(settings) as accounts:
            return await accounts.create(name, limits=limits)

    return asyncio.run(work())


def list_keys(settings: Settings) -> list[tuple[ApiKey, Decimal]]:
    """All keys, revoked ones too, oldest first; each with the USD it has spent this month."""

    async def work() -> list[tuple[ApiKey, Decimal]]:
        async with _accounts(settings) as accounts:
            spent_usd = await accounts.spent_this_month()
            return [(key, spent_usd.get(key.id, units_to_usd(0))) for key in await accounts.list()]

    return asyncio.run(work())


def limit_key(settings: Settings, key_id: str, change: Callable[[KeyLimits], KeyLimits]) -> ApiKey:
    """Change the limits of a key; returns it as it is now.

    Raises:
        NotFound: there is none of that id.
    """

    async def work() -> ApiKey:
        async with _accounts(settings) as accounts:
            return await accounts.limit(key_id, change)

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
    async with open_existing_store(settings) as store:
        yield Accounts(store, store.clock)
