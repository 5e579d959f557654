"""Signals between gateways: PostgreSQL tells each of them what another one has committed."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import asyncpg

from flux_endpoint.stores.sql.channels import move_of
from flux_endpoint.stores.sql.database import ANSWER_S
from flux_endpoint.stores.sql.signals import Channel, Signals

_NAME: Final = "flux_endpoint"
_NOTIFY: Final = f"SELECT pg_notify('{_NAME}', told) FROM unnest($1::text[]) AS told"
# PostgreSQL takes 8,000 bytes.
_MAX_NAME_CHARS: Final = 1_000
# How long a sleeper trusts what it is told, and how often it must look when nobody tells it.
_HEARING_RECHECK_S: Final = 15.0
DEAF_RECHECK_S: Final = 0.5
# A gateway says so often that it is there: what it does not hear of itself, it does not hear of others either.
_BEAT_S: Final = 5.0
# Nobody else was heard for so long: nobody has to be told.
_ALONE_S: Final = 3 * _BEAT_S
# A gateway that has come, and listens, was answered by others by then.
_ANSWERED_S: Final = 1.0
# What comes up so soon after something was told is told together. At rest nothing waits for that.
_TOGETHER_S: Final = 0.01
# What nobody works or waits for to end may be told so much later: that a job was claimed, to who watches it.
_AT_LEISURE_S: Final = 0.1
_PAUSE_S: Final = 1.0
# What could not be told while PostgreSQL was away, at most; its sleepers look by themselves.
_MAX_UNTOLD: Final = 10_000
# Kinds of messages that are no channels.
_BEAT: Final = Channel("here", "")
_LOOK: Final = Channel("look", "")
_MOVE: Final = move_of("").kind


class Notifications:
    """Hears what other gateways have committed, on a connection of its own, and tells them what this one has.

    After the commit and not in it: a transaction that notifies holds a lock of the whole server until it is on the
    disk, so writers would commit one after another. What comes up while something is being told, and for a moment
    after, is told together, next.
    If a process dies between its commit and that, sleepers elsewhere find out when they look by themselves.

    Args:
        signals: fired with what is heard; told how far they can be trusted.
        connect: opens a connection of the driver.
    """

    def __init__(self, signals: Signals, connect: Callable[[], Awaitable[Any]]) -> None:
        self._signals = signals
        self._connect = connect
        self._sender = secrets.token_hex(4)
        self._untold: dict[Channel, None] = {}
        self._stir = asyncio.Event()
        # By the time of the event loop. Until then others are supposed to listen: who has just come cannot know yet.
        self._others_until_s = math.inf
        self._self_heard_s = self._beat_due_s = 0.0
        self._known: set[str] = {self._sender}

    def tell(self, channels: Iterable[Channel]) -> None:
        """Have the other gateways told of what has been committed, if there are any. Only from the event loop."""
        if not self._is_alone and len(self._untold) < _MAX_UNTOLD:
            telling = dict.fromkeys(channels)
            self._untold.update(telling)
            if any(channel.kind != _MOVE for channel in telling):
                self._stir.set()
            else:
                asyncio.get_running_loop().call_later(_AT_LEISURE_S, self._stir.set)

    @property
    def _is_alone(self) -> bool:
        return asyncio.get_running_loop().time() > self._others_until_s

    async def run(self) -> None:
        """Listen and tell until cancelled; after a loss, anew. While nobody listens, sleepers look more often."""
        while True:
            # That the database does not answer, who asks it says.
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self._listen()
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        connection = await self._connect()
        try:
            connection.add_termination_listener(lambda _: self._stir.set())
            await connection.add_listener(_NAME, self._hear)
            is_trusted, self._beat_due_s = False, 0.0
            while not connection.is_closed():
                self._stir.clear()
                telling, self._untold = self._untold, {}
                began_s = loop.time()
                if is_beating := began_s >= self._beat_due_s:
                    telling[_BEAT] = None
                    self._beat_due_s = began_s + _BEAT_S
                if telling:
                    told = [f"{self._sender}|{channel.kind}|{channel.name[:_MAX_NAME_CHARS]}" for channel in telling]
                    try:
                        await connection.execute(_NOTIFY, told, timeout=ANSWER_S)
                    except BaseException:
                        # Perhaps nobody has heard: it is told on the next connection. To hear it twice does no harm.
                        self._untold = telling | self._untold
                        raise
                if is_beating and self._self_heard_s < began_s:
                    raise TimeoutError("What is told is not heard")
                if not is_trusted:
                    # What was told before nobody has heard.
                    self._trust(_HEARING_RECHECK_S)
                    is_trusted = True
                    known_s = 0.0 if self._others_until_s == math.inf else self._others_until_s
                    self._others_until_s = max(known_s, loop.time() + _ANSWERED_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._beat_due_s):
                        await self._stir.wait()
                await asyncio.sleep(began_s + _TOGETHER_S - loop.time())
        finally:
            connection.terminate()
            self._trust(DEAF_RECHECK_S)

    def _trust(self, recheck_s: float) -> None:
        self._signals.recheck_s = recheck_s
        self._signals.fire_all()

    def _hear(self, connection: object, process_id: int, name: str, told: str) -> None:
        sender, kind, channel_name = told.split("|", 2)
        now_s = asyncio.get_running_loop().time()
        if sender == self._sender:
            self._self_heard_s = now_s
            return
        if sender not in self._known:
            # It has just come, and waits for an answer.
            self._known.add(sender)
            self._beat_due_s = 0.0
            self._stir.set()
        was_alone, self._others_until_s = self._is_alone, now_s + _ALONE_S
        channel = Channel(kind, channel_name)
        if was_alone:
            # It has listened for longer than this gateway has known of it.
            self.tell([_LOOK])
        if channel == _LOOK:
            self._signals.fire_all()
        elif channel != _BEAT:
            self._signals.fire({channel: None})
