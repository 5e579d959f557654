"""What the rest of the project asks of the way out to places that clients name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a place said.

    Attributes:
        status: its HTTP code.
        start: the first bytes of the body, at most 2 KiB.
        headers: by their names in lower case.
    """

    status: int
    start: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Sender(Protocol):
    """Sends one request; safe to call concurrently."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """Ask once. Redirects are answers like any other: they are not followed.

        Args:
            method: POST or PUT.
            url: http or https; user and password in it are sent as Basic authorization.
            headers: beside those that HTTP needs.
            body: sent as it is.
            timeout_s: for all of it, from the look-up of the name to the answer.

        Raises:
            OutboundRefused: the rules forbid the address; nothing was sent.
            OutboundFailed: no answer came; the text says why, without the URL.
        """
        ...

    async def fetch(
        self, url: str, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> bytes:
        """Get a file. A few redirects are followed, each to where the rules allow.

        Args:
            url: http or https.
            limit_bytes: the file may have at most so many.
            timeout_s: for all of it.
            headers: beside those that HTTP needs; for the server of `url`, and no other that it redirects to.

        Raises:
            OutboundRefused: the rules forbid an address.
            OutboundFailed: there is no such file, or it is too large; the text says why, without the URL.
        """
        ...

    async def save(
        self, url: str, file: Path, limit_bytes: int, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> str:
        """Get a file as `fetch` does, piece by piece into a file here. No redirect leads from https to http.

        Args:
            url: http or https.
            file: is written; after an error it holds a part.
            limit_bytes: the file may have at most so many.
            timeout_s: for all of it.
            headers: as in `fetch`.

        Returns:
            The SHA-256 of the file, in hexadecimal digits.

        Raises:
            OutboundRefused: the rules forbid an address.
            OutboundFailed: there is no such file, or it is too large; the text says why, without the URL.
            StoreUnavailable: it cannot be written here.
        """
        ...
