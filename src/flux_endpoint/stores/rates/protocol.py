"""Where gateways tell each other how many requests they let in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Admissions:
    """Requests that one gateway let in.

    Attributes:
        age_ms: how long ago the last of them was, milliseconds, at least 0.
        requests: how many there were.
    """

    age_ms: int
    requests: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one gateway has told, and learned.

    Attributes:
        has_room: whether one more fits; it has been noted down with the others.
        elsewhere: what the other gateways have told, within the window.
    """

    has_room: bool
    elsewhere: Sequence[Admissions]


class RateStore(Protocol):
    """Counts of requests that several gateways share. They are lost with a crash of the database: windows are short."""

    async def exchange(
        self, counter: str, gateway: str, *, here: int, untold: int, limit: int, window_ms: int
    ) -> Exchange:
        """Tell what was let in here, ask to let in one more, and learn what the others did: one at a time.

        Args:
            counter: what is counted, such as one operation of one key.
            gateway: who tells.
            here: how many requests this gateway let in within the window.
            untold: how many of these it has not told yet.
            limit: how many there may be within the window, at all gateways.
            window_ms: its length, milliseconds.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...
