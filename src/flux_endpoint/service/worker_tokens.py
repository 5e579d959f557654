"""Who may work: worker tokens, kept by the hash of their secret."""

import hmac
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from flux_endpoint.core import ids
from flux_endpoint.core.account import hash_of_secret
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import InvalidRequest, Unauthenticated
from flux_endpoint.core.worker import WorkerToken
from flux_endpoint.stores.workers.protocol import WorkerStore

# How long an answer of the database is trusted: a revoked token works this much longer, and a worker's calls cost a
# read every so often instead of one each.
_CACHE_MS: Final = 5_000
# Far more than anyone has workers; guesses at secrets fill it up and empty it.
_MAX_CACHED: Final = 1_000
_MAX_ID_CHARS: Final = 200


class WorkerTokens:
    """Creates, checks and revokes worker tokens.

    Args:
        store: where tokens are kept.
        clock: tells when to ask the store again.
        own_secret: the gateway's own token, which is in no table, good for all endpoints, and not revoked; None for
            none.
    """

    def __init__(self, store: WorkerStore, clock: Clock, own_secret: str | None = None) -> None:
        self._store = store
        self._clock = clock
        self._own_secret = None if own_secret is None else own_secret.encode()
        self._own = WorkerToken(id="", name="", endpoint_ids=None, created_ms=0)
        self._cached: dict[str, tuple[WorkerToken | None, int]] = {}

    async def authenticate(self, secret: str) -> WorkerToken:
        """The token a call is made with.

        Raises:
            Unauthenticated: the secret is unknown or revoked.
        """
        if self._own_secret is not None and hmac.compare_digest(secret.encode(), self._own_secret):
            return self._own
        token = await self._find(hash_of_secret(secret))
        if token is None:
            raise Unauthenticated("missing or wrong worker token: check FLUX_ENDPOINT_WORKER_TOKEN of the worker")
        if token.revoked_ms is not None:
            raise Unauthenticated(f"the worker token '{token.name}' has been revoked")
        return token

    async def create(self, name: str, endpoint_ids: Collection[str] | None = None) -> tuple[WorkerToken, str]:
        """Make a token.

        Args:
            name: for people, in listings.
            endpoint_ids: endpoints it shall be good for; None for all.

        Returns:
            The token and its secret, which is shown here and never again.
        """
        secret = ids.new_worker_token()
        token = WorkerToken(
            id=ids.new_key_id(),
            name=name,
            endpoint_ids=None if endpoint_ids is None else frozenset(endpoint_ids),
            created_ms=self._clock.now_ms(),
        )
        await self._store.add_worker_token(token, hash_of_secret(secret))
        return token, secret

    async def list(self) -> Sequence[WorkerToken]:
        """All tokens but the gateway's own, revoked ones too, oldest first."""
        return await self._store.list_worker_tokens()

    async def revoke(self, token_id: str) -> bool:
        """Make a token useless; False when there is none of that id. Running gateways notice within seconds."""
        is_known = await self._store.revoke_worker_token(token_id, self._clock.now_ms())
        self._cached.clear()
        return is_known

    async def _find(self, secret_hash: str) -> WorkerToken | None:
        now_ms = self._clock.monotonic_ms()
        token, until_ms = self._cached.get(secret_hash, (None, 0))
        if until_ms <= now_ms:
            token = await self._store.find_worker_token(secret_hash)
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[secret_hash] = (token, now_ms + _CACHE_MS)
        return token


@lru_cache(_MAX_CACHED)
def worker_name(token_id: str, worker_id: str) -> str:
    """What a worker is called everywhere but in its own calls: its id, after the id of the token it uses.

    Raises:
        InvalidRequest: it is too long, or looks like the worker of a token other than the gateway's own.
    """
    if not 0 < len(worker_id) <= _MAX_ID_CHARS:
        raise InvalidRequest(f"Invalid request: a worker id must have 1 to {_MAX_ID_CHARS} characters")
    # What databases cannot hold.
    worker_id = worker_id.replace("\x00", "\ufffd")
    if token_id:
        return f"{token_id}:{worker_id}"
    if ":" in worker_id:
        raise InvalidRequest("Invalid request: a worker id must not contain ':'")
    return worker_id
