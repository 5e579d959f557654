"""`service.slots`: who gets a place, and who waits."""

import asyncio
import contextlib

import pytest

from flux_endpoint.service.slots import Slots

pytestmark = pytest.mark.anyio


class Crowd:
    """People who hold places until they are told to go."""

    def __init__(self, total):
        self.slots = Slots(total)
        self.inside = []
        self.tasks = {}
        self.gates = {}

    async def come(self, name, **limits):
        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, limits))
        await self._settle()

    async def go(self, name):
        self.gates[name].set()
        await self._settle()

    async def give_up(self, name):
        self.tasks[name].cancel()
        await self._settle()

    async def _hold(self, name, limits):
        with contextlib.suppress(asyncio.CancelledError):
            async with self.slots.hold(limits):
                self.inside.append(name)
                try:
                    await self.gates[name].wait()
                finally:
                    self.inside.remove(name)

    async def _settle(self):
        for _ in range(5):
            await asyncio.sleep(0)


async def test_there_are_so_many_places_and_they_go_in_the_order_of_arrival():
    crowd = Crowd(2)
    for name in "abcd":
        await crowd.come(name, key=9)
    assert crowd.inside == ["a", "b"]
    await crowd.go("a")
    assert crowd.inside == ["b", "c"]
    await crowd.go("c")
    await crowd.go("b")
    assert crowd.inside == ["d"]


async def test_whoever_waits_for_a_share_holds_nobody_up():
    crowd = Crowd(10)
    await crowd.come("a", slow=1)
    await crowd.come("b", slow=1)
    await crowd.come("c", fast=1)
    await crowd.come("d", slow=1, fast=1)
    assert crowd.inside == ["a", "c"]
    await crowd.go("c")
    assert crowd.inside == ["a"]
    await crowd.go("a")
    assert crowd.inside == ["b"]
    await crowd.go("b")
    assert crowd.inside == ["d"]


async def test_whoever_gives_up_leaves_its_place_to_others():
    crowd = Crowd(1)
    for name in "abc":
        await crowd.come(name, key=1)
    await crowd.give_up("b")
    await crowd.give_up("a")
    assert crowd.inside == ["c"]
    await crowd.go("c")
    await crowd.come("d", key=1)
    assert crowd.inside == ["d"]


async def test_a_place_given_at_the_moment_of_giving_up_is_not_lost():
    crowd = Crowd(1)
    await crowd.come("a", key=1)
    await crowd.come("b", key=1)
    crowd.gates["a"].set()
    crowd.tasks["b"].cancel()
    await crowd.go("a")
    await crowd.come("c", key=1)
    assert crowd.inside == ["c"]


async def test_those_who_left_are_forgotten():
    crowd = Crowd(3)
    await crowd.come("a", key=1)
    await crowd.go("a")
    assert not crowd.slots._taken
    assert not crowd.slots._waiting
