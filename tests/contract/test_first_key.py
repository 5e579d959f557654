"""The key that a server makes at its start, and what becomes of the one before; on both databases."""

import asyncio

import pytest

from flux_endpoint.core.account import API_KEY_SETTING
from flux_endpoint.core.errors import Unauthenticated
from flux_endpoint.service.accounts import Accounts

pytestmark = pytest.mark.anyio


@pytest.fixture
def accounts(stores, clock):
    return Accounts(stores.accounts, clock, cache_ms=0)


async def start(accounts, secret, node="node-1", *, is_setting=True):
    return await accounts.ensure_first(secret, node, is_setting=is_setting)


async def are_good(accounts, *secrets):
    good = []
    for secret in secrets:
        try:
            await accounts.authenticate(secret)
            good.append(secret)
        except Unauthenticated as error:
            assert "has been revoked" in str(error)
    return good


async def test_a_changed_setting_revokes_the_key_before_on_every_gateway(accounts):
    first = await start(accounts, "secret-1")
    assert (first.key.made_for, first.replaced, first.left) == (API_KEY_SETTING, [], [])
    assert (await start(accounts, "secret-1", "node-2")).key == first.key
    second = await start(accounts, "secret-2", "node-2")
    assert [key.id for key in second.replaced] == [first.key.id]
    assert await are_good(accounts, "secret-1", "secret-2") == ["secret-2"]
    # The gateway that still has the old setting takes nothing away and gives nothing back.
    again = await start(accounts, "secret-1")
    assert again.key.revoked_ms is not None
    assert (again.left, again.replaced) == ([], [])
    assert await are_good(accounts, "secret-1", "secret-2") == ["secret-2"]


async def test_gateways_that_start_together_make_one_key(accounts):
    firsts = await asyncio.gather(*(start(accounts, "secret-1", f"node-{number}") for number in range(4)))
    assert len({first.key.id for first in firsts}) == 1
    assert [first.replaced for first in firsts] == [[], [], [], []]


async def test_a_key_that_is_drawn_anew_revokes_the_one_of_its_own_folder_only(accounts):
    for node in ("node-1", "node-2"):
        assert (await start(accounts, f"of-{node}", node, is_setting=False)).replaced == []
    await start(accounts, "fixed", "node-3")
    again = await start(accounts, "anew", is_setting=False)
    assert [key.made_for for key in again.replaced] == ["node-1"]
    assert await are_good(accounts, "of-node-1", "of-node-2", "fixed", "anew") == ["of-node-2", "fixed", "anew"]


async def test_a_setting_takes_the_place_of_the_key_in_the_folder(accounts):
    await start(accounts, "drawn", is_setting=False)
    assert len((await start(accounts, "fixed")).replaced) == 1
    assert await are_good(accounts, "drawn", "fixed") == ["fixed"]


async def test_keys_that_people_make_are_never_replaced_whatever_their_name(accounts):
    await accounts.create("default", "by hand")
    first = await start(accounts, "secret-1")
    assert [key.name for key in first.left] == ["default"]
    await accounts.create("shop", "of the shop")
    # The setting names a key that exists: nothing was made, so nothing is replaced, and that is said.
    borrowed = await start(accounts, "of the shop")
    assert (borrowed.key.name, borrowed.key.made_for) == ("shop", None)
    assert first.key.id in [key.id for key in borrowed.left]
    await start(accounts, "secret-2")
    good = await are_good(accounts, "by hand", "secret-1", "of the shop", "secret-2")
    assert good == ["by hand", "of the shop", "secret-2"]


async def test_the_key_of_an_early_version_is_known_from_its_next_start_on(accounts):
    key, _ = await accounts.create("default", "old")
    assert (await start(accounts, "old", is_setting=False)).key.id == key.id
    replaced = (await start(accounts, "new", is_setting=False)).replaced
    assert [old.id for old in replaced] == [key.id]
