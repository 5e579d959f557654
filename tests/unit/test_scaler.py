"""The loop that keeps as many workers as there is work for, with a fleet that only counts."""

from dataclasses import replace

import pytest

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.fleet.protocol import FleetWorker
from flux_endpoint.fleet.scaler import Scaler
from flux_endpoint.stores.fleets.protocol import Work

pytestmark = pytest.mark.anyio

RULES = ScalingRules(0, 3, idle_timeout_s=5)


class CountingFleet:
    """Its workers are there at once, and leave at once; the idle ones first."""

    def __init__(self, name, is_shared=False):
        self.is_shared = is_shared
        self.name = name
        self.workers = []
        self.drawn = 0

    async def scale(self, workers, busy=()):
        self.workers.sort(key=lambda worker: worker not in busy)
        del self.workers[workers:]
        while len(self.workers) < workers:
            self.drawn += 1
            self.workers.append(f"{self.name}-{self.drawn}")

    async def list(self):
        return [FleetWorker(worker, None, 0) for worker in self.workers]


class Place:
    """One database for all: the work, the pools, and who decides."""

    def __init__(self):
        self.jobs = Work(0, 0)
        self.asked = []
        self.known = {}
        self.shares = {}
        self.decider = None
        self.is_away = False

    async def work(self, endpoint_ids, queued_before_ms, limit):
        if self.is_away:
            raise StoreUnavailable("away")
        self.asked.append((sorted(endpoint_ids), queued_before_ms, limit))
        return self.jobs

    async def note_pool(self, pool, now_ms):
        self.known[pool.name] = (pool, now_ms)
        return self.shares.get(pool.name)

    async def pools(self, seen_since_ms):
        return [pool for pool, seen_ms in self.known.values() if seen_ms >= seen_since_ms]

    async def share_out(self, shares, forget_before_ms):
        self.shares |= shares


class Seat:
    """The leadership of one server."""

    def __init__(self, place, name):
        self.place, self.name = place, name
        self.is_closed = False

    async def is_mine(self):
        self.place.decider = self.place.decider or self.name
        return self.place.decider == self.name

    async def close(self):
        self.is_closed = True


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def clock():
    return ManualClock()


def server(place, clock, name="n1", rules=RULES, is_shared=False, **more):
    fleet = CountingFleet(name, is_shared)
    return fleet, Scaler(fleet, place, Seat(place, name), rules, ["dev", "schnell"], name, clock, **more)


async def test_workers_come_with_the_jobs_and_leave_after_the_timeout(place, clock):
    fleet, scaler = server(place, clock)
    await scaler.look()
    assert fleet.workers == []
    place.jobs = Work(waiting=1, overdue=0)
    await scaler.look()
    assert fleet.workers == ["n1-1"]
    place.jobs = Work(2, 2, {"n1-1": 1, "somebody-else": 4})
    await scaler.look()
    assert fleet.workers == ["n1-1", "n1-2", "n1-3"]
    place.jobs = Work(0, 0, {"n1-2": 0})
    await scaler.look()
    clock.advance(s=4.9)
    await scaler.look()
    assert len(fleet.workers) == 3
    clock.advance(s=0.2)
    await scaler.look()
    assert fleet.workers == ["n1-2"], "one that draws something of low priority is not stopped"


async def test_it_asks_for_no_more_than_it_can_use(place, clock):
    _, scaler = server(place, clock)
    await scaler.look()
    assert place.asked == [(["dev", "schnell"], clock.now_ms() - 4_000, 4)]
    by_count = replace(RULES, by=ScaleBy.REQUEST_COUNT, threshold=2.5)
    _, scaler = server(place, clock, rules=by_count)
    await scaler.look()
    assert place.asked[-1][2] >= 3 * 2.5


async def test_two_servers_share_what_one_of_them_decides(place, clock):
    (one, first), (two, second) = server(place, clock, "n1"), server(place, clock, "n2")
    for scaler in (first, second):
        await scaler.look()
    place.jobs = Work(4, 4)
    for scaler in (first, second):
        await scaler.look()
    assert (len(one.workers), len(two.workers)) == (2, 2)
    place.jobs = Work(9, 9, {"n1-1": 1, "n1-2": 1, "n2-1": 1, "n2-2": 1})
    for scaler in (first, second, first, second):
        await scaler.look()
    assert (len(one.workers), len(two.workers)) == (3, 3)


async def test_another_server_takes_over_and_keeps_what_is_there(place, clock):
    (one, first), (two, second) = server(place, clock, "n1"), server(place, clock, "n2")
    for scaler in (first, second):
        await scaler.look()
    place.jobs = Work(4, 4)
    for scaler in (first, second):
        await scaler.look()
    assert (len(one.workers), len(two.workers)) == (2, 2)
    # The first one dies. What it kept died with it.
    place.jobs, place.decider = Work(0, 0), "n2"
    clock.advance(s=11)
    await second.look()
    assert len(two.workers) == 2
    clock.advance(s=6)
    await second.look()
    assert two.workers == []


async def test_a_fleet_of_all_is_told_by_the_one_that_decides(place, clock):
    (one, first), (two, second) = [server(place, clock, name, is_shared=True) for name in ("n1", "n2")]
    place.jobs = Work(5, 5)
    for scaler in (first, second):
        await scaler.look()
    assert (len(one.workers), len(two.workers)) == (3, 0)
    assert place.known == {}


async def test_a_number_of_other_times_is_not_obeyed_beyond_the_settings(place, clock):
    fleet, scaler = server(place, clock, rules=ScalingRules(1, 2))
    place.decider, place.shares = "somebody-else", {"n1": 50}
    await scaler.look()
    assert len(fleet.workers) == 2
    place.shares = {"n1": 0}
    await scaler.look()
    assert len(fleet.workers) == 1


async def test_nothing_changes_while_the_database_is_away(place, clock):
    class Over(Exception):
        pass

    async def sleep(_):
        if place.is_away:
            raise Over
        place.is_away = True

    place.jobs = Work(2, 2)
    fleet, scaler = server(place, clock, sleep=sleep)
    with pytest.raises(Over):
        await scaler.run()
    assert len(fleet.workers) == 2
    assert scaler._leadership.is_closed
