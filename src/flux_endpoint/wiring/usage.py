"""Charges from the command line: `flux-endpoint usage`. Works beside a running server."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from flux_endpoint.core.periods import Period
from flux_endpoint.service.billing import Billing, UsageRecord
from flux_endpoint.settings import Settings
from flux_endpoint.wiring.existing_store import open_existing_store


def read_usage(
    settings: Settings, period: Period, start: datetime | None, end: datetime | None, key_id: str | None
) -> Sequence[UsageRecord]:
    """Who was charged what; see `Billing.usage` and `Billing.range_of`.

    Raises:
        SettingsError: no server has made a database yet.
        StoreUnavailable: the database does not answer.
        InvalidQuery: the end is not after the start.
        NotFound: there is no such key.
    """

    async def work() -> Sequence[UsageRecord]:
        async with open_existing_store(settings) as store:
            billing = Billing(store, store.clock)
            return await billing.usage(billing.range_of(period, start, end), key_id)

    return asyncio.run(work())
