"""Webhooks of tests, sent by a deliverer that runs as in a gateway, until none is due."""

import asyncio
from typing import Any

from flux_endpoint.service.webhooks import Deliverer
from flux_endpoint.stores.webhooks.protocol import Delivery, WebhookStore

# Longer than any test may take.
DEADLINE_S = 20


class Outbox:
    """A store of webhooks that notices when its deliverer has nothing more to do.

    Attributes:
        deliverer: who sends; to be set.
    """

    deliverer: Deliverer

    def __init__(self, store: WebhookStore) -> None:
        self._store = store
        self._is_done = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim_due(self, *asked: Any) -> list[Delivery]:
        due = await self._store.claim_due(*asked)
        if not due and not self.deliverer.under_way:
            self._is_done.set()
        return list(due)

    async def send_due(self) -> None:
        """Send everything that is due now, and return when it is reported."""
        self._is_done.clear()
        running = asyncio.create_task(self.deliverer.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._is_done.wait()
        finally:
            running.cancel()
            await asyncio.wait({running})
