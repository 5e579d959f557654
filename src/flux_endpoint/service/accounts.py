"""Who may call: API keys, kept by the hash of their secret."""

import hashlib
from collections.abc import Sequence

from flux_endpoint.core import ids
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Unauthenticated
from flux_endpoint.stores.protocol import ApiKey, Ledger


class Accounts:
    """Creates, checks and revokes API keys."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def authenticate(self, secret: str) -> ApiKey:
        """The key a request is made with.

        Raises:
            Unauthenticated: the secret is empty, unknown or revoked.
        """
        if not secret:
            raise Unauthenticated("missing API key: send the header 'Authorization: Bearer <key>'")
        key = await self._ledger.find_key(_hash(secret))
        if key is None:
            raise Unauthenticated("unknown API key: check the Authorization header")
        if key.revoked_ms is not None:
            raise Unauthenticated(f"API key '{key.name}' has been revoked")
        return key

    async def create(self, name: str, secret: str | None = None) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            name: for people, in listings.
            secret: a fixed secret; None draws one.

        Returns:
            The key and its secret, which is shown here and never again.
        """
        secret = secret or ids.new_api_key()
        key = ApiKey(id=ids.new_key_id(), name=name, created_ms=self._clock.now_ms())
        await self._ledger.add_key(key, _hash(secret))
        return key, secret

    async def ensure(self, name: str, secret: str) -> ApiKey:
        """The key with this secret; made if it does not exist yet, left alone if it was revoked."""
        existing = await self._ledger.find_key(_hash(secret))
        if existing is not None:
            return existing
        key, _ = await self.create(name, secret)
        return key

    async def list(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return await self._ledger.list_keys()

    async def revoke(self, key_id: str) -> bool:
        """Make a key useless from now on; False when there is none of that id."""
        return await self._ledger.revoke_key(key_id, self._clock.now_ms())


def _hash(secret: str) -> str:
    # Secrets are 256 random bits: a plain fast hash is as good as a slow one, which only protects guessable ones.
    return hashlib.sha256(secret.encode()).hexdigest()
