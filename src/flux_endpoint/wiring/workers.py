"""Worker tokens and workers from the command line: `flux-endpoint workers`. Works beside a running server.

Every function raises `SettingsError` where no server has made a database yet, and `StoreUnavailable` when it does not
answer.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.errors import NotFound
from flux_endpoint.core.worker import WorkerRecord, WorkerToken
from flux_endpoint.service.worker_tokens import WorkerTokens
from flux_endpoint.settings import Settings
from flux_endpoint.wiring.existing_store import open_existing_store

_SHOWN_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of the workers at a time (milliseconds since 1970-01-01 UTC)."""

    tokens: Sequence[WorkerToken]
    workers: Sequence[WorkerRecord]
    running_jobs: Mapping[str, int]
    now_ms: int

    def ago(self, worker: WorkerRecord) -> str:
        """When a worker was last heard of, in words."""
        seconds = max(0, self.now_ms - worker.seen_ms) // 1_000
        for unit, length in (("h", 3_600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{seconds // length} {unit} ago"
        return f"{seconds} s ago"


def create_token(settings: Settings, name: str, endpoint_ids: Collection[str] | None) -> tuple[WorkerToken, str]:
    """Make a token. Returns it and its secret, which cannot be read again."""

    async def work() -> tuple[WorkerToken, str]:
        async with open_existing_store(settings) as store:
            return await WorkerTokens(store, store.clock).create(name, endpoint_ids)

    return asyncio.run(work())


def overview(settings: Settings) -> Overview:
    """All tokens, and the workers seen in the last 24 hours."""

    async def work() -> Overview:
        async with open_existing_store(settings) as store:
            now_ms = store.clock.now_ms()
            return Overview(
                await store.list_worker_tokens(),
                await store.list_workers(now_ms - _SHOWN_MS),
                await store.count_running_jobs(),
                now_ms,
            )

    return asyncio.run(work())


def revoke_token(settings: Settings, token_id: str) -> None:
    """Make a token useless from now on.

    Raises:
        NotFound: there is none of that id.
    """

    async def work() -> bool:
        async with open_existing_store(settings) as store:
            return await WorkerTokens(store, store.clock).revoke(token_id)

    if not asyncio.run(work()):
        raise NotFound(f"there is no worker token with the id '{token_id}'; see flux-endpoint workers list")
