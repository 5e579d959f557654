"""Shares places out: so many in all, and so many for each of several names."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Mapping

Limits = Mapping[Hashable, int]


class Slots:
    """Places that are given in the order of arrival; whoever waits for the share of its name holds nobody else up.

    Args:
        total: places in all.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._taken: Counter[Hashable] = Counter()
        self._waiting: dict[asyncio.Future[None], Limits] = {}

    @contextlib.asynccontextmanager
    async def hold(self, limits: Limits) -> AsyncIterator[None]:
        """Have one place while the block runs.

        Args:
            limits: in whose names, and how many places each of these may have.
        """
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[given] = limits
        self._share_out()
        try:
            await given
            yield
        finally:
            if self._waiting.pop(given, None) is None:
                self._free += 1
                self._taken.subtract(limits.keys())
                self._share_out()

    def _share_out(self) -> None:
        # Who has nothing must not stay in memory.
        self._taken = +self._taken
        for given, limits in list(self._waiting.items()):
            if self._free and all(self._taken[name] < limit for name, limit in limits.items()):
                del self._waiting[given]
                self._free -= 1
                self._taken.update(limits.keys())
                if not given.done():
                    given.set_result(None)
