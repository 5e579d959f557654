"""What the rest of the project asks of the place where keys and charges are kept."""

from collections.abc import Collection, Sequence
from typing import Protocol

from flux_endpoint.core.account import ApiKey, ChargeSum, KeyLimits, LedgerEntry, UsageSum


class AccountStore(Protocol):
    """Keys and charges. Charges are written by `ClaimStore.finish` only."""

    async def add_key(self, key: ApiKey, secret_hash: str) -> None:
        """Keep a new key by the hash of its secret.

        Raises:
            ValueError: a key of that id or hash exists.
        """
        ...

    async def replace_keys(self, key: ApiKey, secret_hash: str, places: Collection[str]) -> Sequence[ApiKey]:
        """Keep a new key and revoke, in the same transaction, all others whose `made_for` is one of `places`.

        Returns:
            Those that were good until now.

        Raises:
            ValueError: a key of that id or hash exists; nothing changed.
        """
        ...

    async def adopt_key(self, key_id: str, place: str) -> None:
        """Set `made_for` of a key."""
        ...

    async def find_key(self, secret_hash: str) -> ApiKey | None:
        """The key with that hash, revoked or not; None when there is none."""
        ...

    async def list_keys(self) -> Sequence[ApiKey]:
        """All keys, oldest first."""
        ...

    async def limit_key(self, key_id: str, limits: KeyLimits) -> bool:
        """Replace the limits of a key; False when there is none of that id."""
        ...

    async def choose_model(self, key_id: str, endpoint_id: str) -> None:
        """Set `chosen_model` of a key."""
        ...

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """Revoke a key; False when there is none of that id. Revoking twice keeps the first time."""
        ...

    async def entries(self, key_id: str | None = None) -> Sequence[LedgerEntry]:
        """Charges of one key or of all, oldest first."""
        ...

    async def charges(
        self, since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None
    ) -> Sequence[ChargeSum]:
        """Sums of the charges of one key or of all, by units of time, oldest first; units without any are left out.

        Args:
            since_ms: a full hour; charges from then on.
            until_ms: a full hour; charges before it.
            unit_ms: an hour or a day, milliseconds; days begin at 00:00 UTC.
            key_id: whose; None for all.
        """
        ...

    async def usage(self, since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None) -> Sequence[UsageSum]:
        """As `charges`, for each key and endpoint; within a unit ordered by their ids."""
        ...
