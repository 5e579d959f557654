"""Signals between gateways: PostgreSQL tells each of them what another one has committed."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from flux_endpoint.stores.sql.database import ANSWER_S, Connection
from flux_endpoint.stores.sql.signals import Channel, Signals

_NAME: Final = "flux_endpoint"
_NOTIFY: Final = text(f"SELECT pg_notify('{_NAME}', told) FROM unnest(:told) AS told").bindparams(
    bindparam("told", type_=ARRAY(Text))
)
# PostgreSQL takes 8,000 bytes.
_MAX_NAME_CHARS: Final = 1_000
# How long a sleeper trusts what it is told, and how often it must look when nobody tells it.
_HEARING_RECHECK_S: Final = 5.0
DEAF_RECHECK_S: Final = 0.5
# A broken network says nothing by itself.
_PING_S: Final = 5.0
_PAUSE_S: Final = 1.0


class Notifications:
    """Hears what other gateways have committed, on a connection of its own, and tells them what this one does.

    Args:
        signals: fired with what is heard; told how far they can be trusted.
        connect: opens a connection of the driver.
    """

    def __init__(self, signals: Signals, connect: Callable[[], Awaitable[Any]]) -> None:
        self._signals = signals
        self._connect = connect
        self._sender = secrets.token_hex(4)

    def tell(self, connection: Connection, channels: Iterable[Channel]) -> None:
        """Have the other gateways told as soon as the transaction is committed."""
        told = [f"{self._sender}|{channel.kind}|{channel.name[:_MAX_NAME_CHARS]}" for channel in channels]
        connection.execute(_NOTIFY, {"told": told})

    async def run(self) -> None:
        """Listen until cancelled; after a loss, anew. While nobody listens, sleepers look more often."""
        while True:
            # That the database does not answer, who asks it says.
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self._listen()
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        is_lost = asyncio.Event()
        connection = await self._connect()
        try:
            connection.add_termination_listener(lambda _: is_lost.set())
            await connection.add_listener(_NAME, self._hear)
            # What was told before nobody has heard.
            self._trust(_HEARING_RECHECK_S)
            while not is_lost.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PING_S):
                        await is_lost.wait()
                await connection.execute("SELECT 1", timeout=ANSWER_S)
        finally:
            connection.terminate()
            self._trust(DEAF_RECHECK_S)

    def _trust(self, recheck_s: float) -> None:
        self._signals.recheck_s = recheck_s
        self._signals.fire_all()

    def _hear(self, connection: object, process_id: int, name: str, told: str) -> None:
        sender, kind, channel_name = told.split("|", 2)
        if sender != self._sender:
            self._signals.fire({Channel(kind, channel_name): None})
