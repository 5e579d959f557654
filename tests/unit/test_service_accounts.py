"""Keys and the memory of them, against a ledger that counts its readers."""

import pytest

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import Unauthenticated
from flux_endpoint.service.accounts import CACHE_MS, Accounts

pytestmark = pytest.mark.anyio


class MemoryLedger:
    """Keys in a dictionary, as another process may change them too."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.reads = 0

    async def add_key(self, key, secret_hash):
        self.keys[secret_hash] = key

    async def find_key(self, secret_hash):
        self.reads += 1
        return self.keys.get(secret_hash)

    async def revoke_key(self, key_id, now_ms):
        for secret_hash, key in self.keys.items():
            if key.id == key_id:
                self.keys[secret_hash] = ApiKey(key.id, key.name, key.created_ms, now_ms)
                return True
        return False


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def accounts(ledger, clock):
    return Accounts(ledger, clock)


async def test_a_key_in_use_is_read_once_in_two_seconds(accounts, ledger, clock):
    key, secret = await accounts.create("laptop")
    for _ in range(10):
        assert await accounts.authenticate(secret) == key
    assert ledger.reads == 1
    clock.advance(ms=CACHE_MS - 1)
    await accounts.authenticate(secret)
    assert ledger.reads == 1
    clock.advance(ms=1)
    await accounts.authenticate(secret)
    assert ledger.reads == 2


async def test_a_revocation_elsewhere_is_seen_when_the_memory_has_aged(accounts, ledger, clock):
    key, secret = await accounts.create("laptop")
    await accounts.authenticate(secret)
    await ledger.revoke_key(key.id, clock.now_ms())
    await accounts.authenticate(secret)
    clock.advance(ms=CACHE_MS)
    with pytest.raises(Unauthenticated, match="'laptop' has been revoked"):
        await accounts.authenticate(secret)


async def test_a_revocation_here_is_seen_at_once(accounts):
    key, secret = await accounts.create("laptop")
    await accounts.authenticate(secret)
    await accounts.revoke(key.id)
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(secret)


async def test_wrong_keys_are_not_remembered(accounts, ledger):
    with pytest.raises(Unauthenticated):
        await accounts.authenticate("fixed secret")
    # Made by another process a moment later.
    await Accounts(ledger, ManualClock()).create("laptop", "fixed secret")
    await accounts.authenticate("fixed secret")


async def test_a_clock_set_back_does_not_freeze_the_memory(accounts, ledger, clock):
    _, secret = await accounts.create("laptop")
    await accounts.authenticate(secret)
    clock.jump(s=-86_400)
    clock.advance(ms=CACHE_MS)
    await accounts.authenticate(secret)
    assert ledger.reads == 2


async def test_the_memory_does_not_grow_without_end(accounts, monkeypatch):
    monkeypatch.setattr("flux_endpoint.service.accounts._CACHE_KEYS", 5)
    for number in range(12):
        _, secret = await accounts.create(str(number))
        await accounts.authenticate(secret)
        assert len(accounts._cache) <= 5
