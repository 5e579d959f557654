"""The LoRAs of a gateway."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from flux_endpoint.files.lora_shelf import FolderShelf

# A file that was put there a moment ago is hashed by the request that names it.
_PERIOD_S: Final = 10.0


def looking_at(shelf: FolderShelf) -> Callable[[], Coroutine[Any, Any, None]]:
    """What runs beside a gateway: it reads new files, so that no request waits until a large one has been hashed."""

    async def run() -> None:
        while True:
            await asyncio.to_thread(shelf.look_at_all)
            await asyncio.sleep(_PERIOD_S)

    return run
