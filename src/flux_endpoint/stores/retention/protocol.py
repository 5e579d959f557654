"""What the rest of the project asks of the database when the time of something is over."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many records were deleted."""

    jobs: int
    webhooks: int


class RetentionStore(Protocol):
    """Erases and deletes; may raise `StoreUnavailable`: then some of it may be left for the next call."""

    async def erase_expired(self) -> int:
        """Erase input, output and the like of every terminal job that can no longer be read. Returns how many.

        In SQLite nothing of it is then left in the files, once nobody reads any more what was there before. What stays
        in the row (status, times, cost, error) is for the operator's figures only.
        """
        ...

    async def forget(self, before_ms: int) -> Forgotten:
        """Delete what was over before a time: erased jobs, webhooks in the log, cold starts. Ledger entries stay.

        Idempotency keys go that are free again: after `IDEMPOTENCY_KEY_LIFE_MS`, and when their jobs cannot be read any
        more. Batches go with the last of their jobs; drafts that nobody finalized in a week are given up.
        """
        ...
