"""What commands beside a running server have in hand: its stores, and the services over them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.service.billing import Billing
from flux_endpoint.service.worker_tokens import WorkerTokens
from flux_endpoint.settings import Settings

if TYPE_CHECKING:
    from flux_endpoint.stores.connect import Stores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Admin:
    """The database of a server that runs or has run."""

    stores: "Stores"

    @property
    def accounts(self) -> Accounts:
        """Its API keys."""
        return Accounts(self.stores.accounts, self.stores.clock)

    @property
    def billing(self) -> Billing:
        """What they were charged."""
        return Billing(self.stores.accounts, self.stores.clock)

    @property
    def worker_tokens(self) -> WorkerTokens:
        """The secrets of its workers."""
        return WorkerTokens(self.stores.workers, self.stores.clock)


def ask(settings: Settings, question: Callable[[Admin], Awaitable[T]]) -> T:
    """What the question finds out while the database is open.

    Raises:
        SettingsError: no server has made a database there yet.
        StoreUnavailable: the database does not answer.
    """
    if settings.database_url is None and not settings.database_file.exists():
        # A key in a database that no server reads would look as good as any other.
        raise SettingsError(
            f"no server has used DATA_DIR {settings.data_dir} yet; name the right one with --data-dir, or start it once"
        )
    return asyncio.run(_ask(settings, question))


async def _ask(settings: Settings, question: Callable[[Admin], Awaitable[T]]) -> T:
    from flux_endpoint.stores.connect import open_stores

    stores = await open_stores(settings.resolved_database_url, SystemClock())
    try:
        return await question(Admin(stores))
    finally:
        await stores.close()


def require_endpoints(settings: Settings, endpoint_ids: Collection[str]) -> None:
    """Refuse the id of an endpoint that no server with these settings could serve.

    Raises:
        SettingsError: there is no such endpoint; names the first, and all there are. Or ENDPOINTS_FILE is wrong.
    """
    known = list(FLUX_ENDPOINTS)
    if settings.endpoints_file is not None:
        from flux_endpoint.wiring.endpoints_file import read_endpoints_file

        known += [endpoint.endpoint_id for endpoint in read_endpoints_file(settings.endpoints_file, FLUX_ENDPOINTS)]
    for endpoint_id in endpoint_ids:
        if endpoint_id not in known:
            hint = "" if settings.endpoints_file else "; name those of your own with --endpoints-file"
            raise SettingsError(f"--endpoint is '{endpoint_id}'; there are {', '.join(known)}{hint}")
