"""Receivers of webhooks, good and slow, and a bucket that accepts and never answers."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import standardwebhooks


class Receiver:
    """Listens on every address of this machine, answers 200 at once, or never.

    Args:
        secret_of: the secret of the key that a path names; None when nothing is checked.
        is_slow: accept, read, and never answer.
    """

    def __init__(self, secret_of: Callable[[str], str] | None = None, *, is_slow: bool = False) -> None:
        self._secret_of = secret_of
        self._is_slow = is_slow
        # When what was told of a job first, milliseconds since 1970-01-01 UTC.
        self.told_ms: dict[str, int] = {}
        self.told: dict[str, str] = {}
        self.repeated = 0
        self.wrong: list[str] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "0.0.0.0", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and let go of whoever waits."""
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    def url(self, key_name: str, host: str = "127.0.0.1") -> str:
        """Where the webhooks of a key go."""
        return f"http://{host}:{self.port}/{key_name}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if self._is_slow:
                # Until whoever asked has had enough.
                await reader.read()
            else:
                self._note(head[0].split()[1].strip("/"), headers, body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        self._open.discard(writer)
        writer.close()

    def _note(self, key_name: str, headers: dict[str, str], body: bytes) -> None:
        if self._secret_of is None:
            return
        try:
            told: Any = standardwebhooks.Webhook(self._secret_of(key_name)).verify(body, headers)
        except (standardwebhooks.WebhookVerificationError, KeyError) as error:
            self.wrong.append(f"{key_name}: {error!r}")
            return
        self.repeated += told["id"] in self.told
        self.told_ms.setdefault(told["id"], time.time_ns() // 1_000_000)
        self.told[told["id"]] = told["status"]
