"""The LoRAs of a gateway, and where fetched ones are kept."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.files.lora_shelf import FolderShelf
from flux_endpoint.outbound.protocol import Sender
from flux_endpoint.service.loras import FetchedLoras, Hub
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.stores.jobs.protocol import ClaimStore

# A file that was put there a moment ago is hashed by the request that names it.
_PERIOD_S: Final = 10.0


def looking_at(shelf: FolderShelf) -> Callable[[], Coroutine[Any, Any, None]]:
    """What runs beside a gateway: it reads new files, so that no request waits until a large one has been hashed."""

    async def run() -> None:
        while True:
            await asyncio.to_thread(shelf.look_at_all)
            await asyncio.sleep(_PERIOD_S)

    return run


def kept_loras(settings: Settings) -> KeptLoras:
    """Where a gateway keeps what it fetches; its own workers use the same folder."""
    return KeptLoras(settings.kept_loras_dir, settings.lora_kept_bytes)


def kept_by_worker(settings: WorkerSettings) -> KeptLoras:
    """Where a worker keeps what it gets from its gateway."""
    folder = settings.lora_kept_dir or Path("~/.cache/flux-endpoint/loras").expanduser()
    return KeptLoras(folder, settings.lora_kept_bytes)


def fetched_loras(settings: Settings, sender: Sender, claims: ClaimStore) -> FetchedLoras:
    """What a gateway fetches LoRAs with; the hub is the one of the variables that its own client reads."""
    url = os.environ.get("HF_ENDPOINT") or Hub().url
    hub = Hub(url.rstrip("/"), os.environ.get("HF_TOKEN") or None)
    return FetchedLoras(kept_loras(settings), sender, settings.outbound_rules, hub, claims)
