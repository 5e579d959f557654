"""Webhooks from the command line: `flux-endpoint webhooks`. Works beside a running server, which does the sending.

Every function raises `SettingsError` where no server has made a database yet, and `StoreUnavailable` when it does not
answer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from flux_endpoint.core.webhook import DeliveryRecord, PausedReceiver, WebhookSecret
from flux_endpoint.settings import Settings
from flux_endpoint.stores.webhooks.protocol import Outbox
from flux_endpoint.wiring.existing_store import open_existing_store

T = TypeVar("T")


def list_deliveries(settings: Settings, *, limit: int, job_id: str | None, failed: bool) -> list[DeliveryRecord]:
    """The delivery log, newest first; see `Outbox.deliveries`."""
    return _with_outbox(settings, lambda outbox: outbox.deliveries(limit=limit, job_id=job_id, failed=failed))


def list_paused(settings: Settings) -> list[PausedReceiver]:
    """Receivers that get nothing for a while; see `Outbox.paused_receivers`."""
    return _with_outbox(settings, lambda outbox: outbox.paused_receivers())


def replay(settings: Settings, delivery_id: str) -> None:
    """Have one delivery sent once more.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is on its way anyhow, or what was sent is no longer kept.
    """
    _with_outbox(settings, lambda outbox: outbox.replay(delivery_id))


def replay_failed(settings: Settings) -> int:
    """Have everything sent once more that was given up or refused. Returns how many."""
    return _with_outbox(settings, lambda outbox: outbox.replay_failed())


def secret_of(settings: Settings, key_id: str, *, rotate: bool) -> WebhookSecret:
    """What signs the webhooks of an API key; with `rotate`, another one than before.

    Raises:
        NotFound: there is no such key.
    """
    return _with_outbox(
        settings,
        lambda outbox: outbox.rotate_webhook_secret(key_id) if rotate else outbox.webhook_secret(key_id),
    )


def _with_outbox(settings: Settings, ask: Callable[[Outbox], Coroutine[Any, Any, T]]) -> T:
    async def work() -> T:
        async with open_existing_store(settings) as store:
            return await ask(store)

    return asyncio.run(work())
