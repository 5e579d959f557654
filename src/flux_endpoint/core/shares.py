"""Who may have one more of a number of places: nobody gets all of them, and whoever comes new finds one.

One rule on two levels: a key may hold fewer places than are free. So one key alone gets half of them, two a third each,
and there is room for another however many hold some. Within a host's own, smaller number the same rule holds.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is sent something, and for whom.

    Attributes:
        key_id: of the API key that asked for it.
        host: of the URL, `core.outbound.host_of`.
        origin: scheme, host and port, `core.outbound.origin_of`.
    """

    key_id: str
    host: str
    origin: str


class Shares:
    """Counts who holds which of one sender's places.

    Args:
        free: how many of the sender's own places are free.
        per_host: how many requests one host may have at a time, those of all senders together.

    Attributes:
        free: what is left of them.
    """

    def __init__(self, free: int, per_host: int) -> None:
        self.free = free
        self._per_host = per_host
        self._keys: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._on_probation: set[tuple[str, str]] = set()

    def count(self, receiver: Receiver, places: int, *, is_on_probation: bool) -> None:
        """Note what is held already, by whichever sender.

        Args:
            receiver: who is being sent something.
            places: how many things.
            is_on_probation: it has been failing, and gets one thing at a time until it has taken one.
        """
        self._keys[receiver.key_id] += places
        self._hosts[receiver.host] += places
        self._pairs[receiver.key_id, receiver.host] += places
        if is_on_probation:
            self._on_probation.add((receiver.key_id, receiver.origin))

    def take(self, receiver: Receiver, *, is_on_probation: bool) -> bool:
        """Take one place for a receiver; False, and nothing taken, when it has its share."""
        if (
            self._keys[receiver.key_id] >= self.free
            or self._pairs[receiver.key_id, receiver.host] >= self._per_host - self._hosts[receiver.host]
            or (receiver.key_id, receiver.origin) in self._on_probation
        ):
            return False
        self.free -= 1
        self.count(receiver, 1, is_on_probation=is_on_probation)
        return True

    @property
    def full_keys(self) -> Collection[str]:
        """Keys that have their share."""
        return [key_id for key_id, held in self._keys.items() if held >= self.free]

    @property
    def full_hosts(self) -> Collection[str]:
        """Hosts that get nothing more from anybody."""
        return [host for host, held in self._hosts.items() if held >= self._per_host]

    @property
    def full_pairs(self) -> Collection[tuple[str, str]]:
        """Keys and hosts: the key has its share of the host."""
        return [pair for pair, held in self._pairs.items() if held >= self._per_host - self._hosts[pair[1]]]

    @property
    def on_probation(self) -> Collection[tuple[str, str]]:
        """Keys and origins that hold the one place they may have."""
        return self._on_probation
