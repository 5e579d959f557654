"""Puts off what the HTTP client costs until somebody is called: it takes a tenth of a second to import."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flux_endpoint.core.outbound import OutboundRules
from flux_endpoint.outbound.protocol import NO_HEADERS, Answer

if TYPE_CHECKING:
    from flux_endpoint.outbound.client import GuardedSender


class LateSender:
    """Implements `Sender` by a `GuardedSender` that is made when something is first sent.

    Args:
        rules: which addresses may be called.
        user_agent: how the server calls itself.
    """

    def __init__(self, rules: OutboundRules, user_agent: str) -> None:
        self._rules = rules
        self._user_agent = user_agent
        self._sender: GuardedSender | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """See `Sender.send`."""
        return await self._made().send(method, url, headers, body, timeout_s)

    async def fetch(
        self, url: str, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> bytes:
        """See `Sender.fetch`."""
        return await self._made().fetch(url, limit_bytes, timeout_s, headers)

    async def save(
        self, url: str, file: Path, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> str:
        """See `Sender.save`."""
        return await self._made().save(url, file, limit_bytes, timeout_s, headers)

    def _made(self) -> "GuardedSender":
        if self._sender is None:
            from flux_endpoint.outbound.client import GuardedSender

            self._sender = GuardedSender(self._rules, self._user_agent)
        return self._sender
