"""Who may call: API keys, kept by the hash of their secret."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from flux_endpoint.core import ids
from flux_endpoint.core.account import API_KEY_SETTING, NO_LIMITS, ApiKey, KeyLimits, Operation, hash_of_secret
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import NotFound, Unauthenticated
from flux_endpoint.core.limits import DEFAULT_RULES, RateRule
from flux_endpoint.core.periods import MS_PER_DAY, Period, from_ms, to_ms
from flux_endpoint.service.limits import RateLimiter, SharedRates
from flux_endpoint.stores.accounts.protocol import AccountStore
from flux_endpoint.stores.rates.protocol import RateStore

# A key revoked or changed by another process is believed in for this long.
CACHE_MS: Final = 2_000
FIRST_KEY_NAME: Final = "default"
# Some megabytes; a server with more keys in use than this reads some of them again.
_CACHE_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The key that a server has at its start.

    Attributes:
        key: as it is; it may have been revoked.
        replaced: keys in whose place it was made just now; they are revoked.
        left: other good keys that servers made, perhaps in the same place: whether somebody needs them is not known.
    """

    key: ApiKey
    replaced: Sequence[ApiKey]
    left: Sequence[ApiKey]


class Accounts:
    """Creates, checks and revokes API keys.

    Attributes:
        shares_rates: whether other gateways count requests too, so that `agree` has to come before `enter`.

    Args:
        ledger: where keys are kept.
        clock: ages the cache.
        rules: how often a key may ask; counted here.
        rates: shared with other gateways; None when there are none.
        cache_ms: how long a key that was found is not looked up again; 0 to read the database at every request.
    """

    def __init__(
        self,
        ledger: AccountStore,
        clock: Clock,
        rules: Mapping[Operation, RateRule] = DEFAULT_RULES,
        rates: RateStore | None = None,
        cache_ms: int = CACHE_MS,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self.shares_rates = rates is not None
        self._limiter = RateLimiter(clock, rules, None if rates is None else SharedRates(rates, clock))
        self._cache_ms = cache_ms
        # By hash: the key, and when it was read by `monotonic_ms`.
        self._cache: dict[str, tuple[ApiKey, int]] = {}

    async def authenticate(self, secret: str) -> ApiKey:
        """The key a request is made with.

        Raises:
            Unauthenticated: the secret is empty, unknown or revoked.
        """
        if not secret:
            raise Unauthenticated("missing API key: send the header 'Authorization: Bearer <key>'")
        secret_hash = hash_of_secret(secret)
        now_ms = self._clock.monotonic_ms()
        key, read_ms = self._cache.get(secret_hash, (None, 0))
        if key is not None and now_ms - read_ms < self._cache_ms:
            return key
        key = await self._ledger.find_key(secret_hash)
        # Only good keys are remembered: guessing must not fill the memory, and a new key works at once.
        self._cache.pop(secret_hash, None)
        if key is None:
            raise Unauthenticated("unknown API key: check the Authorization header")
        if key.revoked_ms is not None:
            raise Unauthenticated(f"API key '{key.name}' has been revoked")
        if len(self._cache) >= _CACHE_KEYS:
            self._cache.clear()
        # Stamped with the time before the read: what changed meanwhile is not believed in for longer than promised.
        self._cache[secret_hash] = (key, now_ms)
        return key

    async def agree(
        self, key: ApiKey, endpoint_id: str | None, operation: Operation, *, may_repeat: bool = False
    ) -> None:
        """Come to terms with the other gateways about a request for which `enter` is called right after this.

        Raises:
            Forbidden: the key does not open that operation or endpoint.
            StoreUnavailable: the database did not answer.
        """
        key.require(endpoint_id, operation)
        await self._limiter.agree(key, endpoint_id, operation, may_repeat=may_repeat)

    def enter(
        self, key: ApiKey, endpoint_id: str | None, operation: Operation, *, may_repeat: bool = False
    ) -> Callable[[], None]:
        """Let one request of a key in; one that may repeat another does not count as asking for a job yet.

        Returns:
            What to call, once, when the request is over.

        Raises:
            Forbidden: the key does not open that operation or endpoint.
            TooManyRequests: a rate limit is reached.
        """
        key.require(endpoint_id, operation)
        return self._limiter.enter(key, endpoint_id, operation, may_repeat=may_repeat)

    async def ask_for_job(self, key: ApiKey) -> None:
        """Count the job that a request asks for, which `enter` was told may repeat another and which did not.

        Raises:
            TooManyRequests: the key has asked for as many as it may in a minute.
        """
        await self._limiter.agree_on_job(key)
        self._limiter.ask_for_job(key)

    async def create(self, name: str, secret: str | None = None, limits: KeyLimits = NO_LIMITS) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            name: for people, in listings.
            secret: a fixed secret; None draws one.
            limits: what the key may not do.

        Returns:
            The key and its secret, which is shown here and never again.
        """
        secret = secret or ids.new_api_key()
        key = ApiKey(id=ids.new_key_id(), name=name, created_ms=self._clock.now_ms(), limits=limits)
        await self._ledger.add_key(key, hash_of_secret(secret))
        return key, secret

    async def ensure_first(self, secret: str, node: str, *, is_setting: bool) -> FirstKey:
        """The key with which a server starts; made if it does not exist yet, left alone if it was revoked.

        A key that is made takes the place of those that this node has drawn before and, if the setting API_KEY fixes
        it, of those that the setting has fixed before, on any gateway of the database: they are revoked. Keys that
        other nodes have drawn stay.

        Args:
            secret: of the key.
            node: whose data folder holds drawn keys.
            is_setting: whether the setting API_KEY fixes it.
        """
        place = API_KEY_SETTING if is_setting else node
        places = {node, place}
        key = await self._ledger.find_key(hash_of_secret(secret))
        replaced: Sequence[ApiKey] = []
        if key is None:
            key = ApiKey(ids.new_key_id(), FIRST_KEY_NAME, self._clock.now_ms(), made_for=place)
            try:
                replaced = await self._ledger.replace_keys(key, hash_of_secret(secret), places)
            except ValueError:
                # Another gateway that starts with the same setting was sooner.
                if (sooner := await self._ledger.find_key(hash_of_secret(secret))) is None:
                    raise
                key = sooner
        elif key.made_for is None and key.name == FIRST_KEY_NAME:
            # Of an early version. A key of another name was made by a person, whatever the setting says today.
            await self._ledger.adopt_key(key.id, place)
        left = [
            other
            for other in await self._ledger.list_keys()
            # One that was revoked has not taken their place.
            if key.revoked_ms is None
            and other.id != key.id
            and other.revoked_ms is None
            and (other.made_for in places or (other.made_for is None and other.name == FIRST_KEY_NAME))
        ]
        return FirstKey(key, replaced, left)

    async def list(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return await self._ledger.list_keys()

    async def spent_this_month(self) -> dict[str, Decimal]:
        """USD charged to each key since the first of the month (UTC), by key id; keys without a charge are missing."""
        now = from_ms(self._clock.now_ms())
        month = Period.MONTH.start_of(now)
        end = Period.MONTH.next_after(month)
        spent_usd: dict[str, Decimal] = {}
        for part in await self._ledger.usage(to_ms(month), to_ms(end), MS_PER_DAY):
            spent_usd[part.key_id] = spent_usd.get(part.key_id, Decimal(0)) + part.amount_usd
        return spent_usd

    async def limit(self, key_id: str, change: Callable[[KeyLimits], KeyLimits]) -> ApiKey:
        """Change the limits of a key; other gateways follow within `CACHE_MS`, and its budget holds at once.

        Raises:
            NotFound: there is no key of that id.
        """
        key = next((key for key in await self._ledger.list_keys() if key.id == key_id), None)
        if key is None:
            raise NotFound(f"there is no API key with the id '{key_id}'")
        limits = change(key.limits)
        await self._ledger.limit_key(key_id, limits)
        self._cache.clear()
        return replace(key, limits=limits)

    async def choose_model(self, key: ApiKey, endpoint_id: str) -> None:
        """Note which model the client of a key has chosen; other gateways follow within `CACHE_MS`."""
        await self._ledger.choose_model(key.id, endpoint_id)
        self._cache.clear()

    async def revoke(self, key_id: str) -> bool:
        """Make a key useless from now on; False when there is none of that id."""
        is_known = await self._ledger.revoke_key(key_id, self._clock.now_ms())
        self._cache.clear()
        return is_known
