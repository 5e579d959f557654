"""Whose step is next: the rule against first come, first served, on simulated devices."""

import random
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_endpoint.core.picture_work import picture_work
from flux_endpoint.worker.turns import LATENESS_SHARE, Shape, Turns

DEV, SCHNELL = "dev", "schnell"
# Seconds: those of an H200, more or less.
S_PER_WORK = 2e-5
# In steps: the prompt, and the pixels slice by slice.
START_STEPS, END_STEPS = 0.05, (0.05, 0.1, 0.1, 0.15)
LITTLE = 1e-6


@dataclass(frozen=True)
class Picture:
    endpoint_id: str
    side: int
    steps: int
    negative_prompt: str = ""
    is_low: bool = False
    count: int = 1

    @property
    def input(self):
        return {
            "width": self.side,
            "height": self.side,
            "num_inference_steps": self.steps,
            "negative_prompt": self.negative_prompt,
            "true_cfg_scale": 2.0,
            "num_images": self.count,
        }

    @property
    def shape(self):
        return Shape.of(self.endpoint_id, self.input)

    @property
    def step_s(self):
        return self.shape.work * S_PER_WORK

    @property
    def slices(self):
        """Of each of its pictures: seconds, and the number of a step."""
        step_s = self.step_s
        steps = [(step_s, number) for number in range(1, self.steps + 1)]
        return [(START_STEPS * step_s, None), *steps, *((part * step_s, None) for part in END_STEPS)]

    @property
    def own_s(self):
        return self.count * sum(seconds for seconds, _ in self.slices)


LONG, SHORT = Picture(DEV, 1536, 50), Picture(SCHNELL, 256, 4)


class Device:
    """One worker on one device, in simulated time; pictures come at given times, earliest first.

    Args:
        arrivals: seconds and pictures.
        slots: how many are drawn at once; None for a worker that takes what comes, however much.
        knows: whether it has drawn a picture of each shape before.
    """

    def __init__(self, arrivals, slots=None, knows=True):
        self.arrivals = arrivals
        self.takes_all = slots is None
        self.turns = Turns(slots or len(arrivals) + 1)
        self.now_s = 0.0
        self.ends_s = {}
        self.slices = []
        self.took_s = []
        self.at_end = []
        for number, picture in enumerate({picture.shape: picture for _, picture in arrivals}.values()):
            if knows:
                self.turns.add(number, picture.shape, 3)
                for seconds, step in replace(picture, steps=3).slices:
                    self.turns.drawn(number, seconds, step)
                self.turns.remove(number)

    def run(self):
        coming, waiting, done = list(enumerate(self.arrivals)), [], {}
        while coming or waiting or len(self.turns):
            if not waiting and not len(self.turns):
                self.now_s = max(self.now_s, coming[0][1][0])
            while coming and coming[0][1][0] <= self.now_s:
                waiting.append(coming.pop(0)[0])
            while (taken := self.choose(waiting)) is not None:
                waiting.remove(taken)
                picture = self.arrivals[taken][1]
                self.turns.add(taken, picture.shape, picture.steps, picture.count, is_low=picture.is_low)
                done[taken] = 0
            job = self.turns.next()
            picture = self.arrivals[job][1]
            seconds, step = picture.slices[done[job] % len(picture.slices)]
            done[job] += 1
            self.slices.append(job)
            self.took_s.append(seconds)
            self.now_s += seconds
            self.turns.drawn(job, seconds, step)
            if done[job] == len(picture.slices) * picture.count:
                self.turns.remove(job)
                del done[job]
                self.ends_s[job] = self.now_s
            elif done[job] % len(picture.slices) == 0:
                self.turns.begin_next(job)
            drawn = {one: self.arrivals[one][1] for one in done}
            self.at_end.append([one for job, one in drawn.items() if done[job] % len(one.slices) > one.steps + 1])
        return self

    def choose(self, waiting):
        if self.takes_all:
            return waiting[0] if waiting else None
        room = self.turns.room()
        if room is None:
            return None
        if room.at_most is None:
            return waiting[0] if waiting else None
        pictures = ((job, self.arrivals[job][1]) for job in waiting)
        fits = (job for job, picture in pictures if not picture.is_low and picture_work(picture.input) <= room.at_most)
        return next(fits, None)


def first_come(arrivals):
    now_s, ends_s = 0.0, {}
    for job, (at_s, picture) in enumerate(arrivals):
        now_s = ends_s[job] = max(now_s, at_s) + picture.own_s
    return ends_s


def promised(device):
    """Jobs and their ends; those of low priority are promised less."""
    return [(job, end_s) for job, end_s in device.ends_s.items() if not device.arrivals[job][1].is_low]


pictures = st.builds(
    Picture,
    st.sampled_from([DEV, SCHNELL]),
    st.sampled_from([256, 512, 1024, 1536]),
    st.integers(1, 15),
    st.sampled_from(["", "night"]),
    st.booleans(),
    st.sampled_from([1, 1, 1, 2, 4]),
)
# Gaps shorter than the pictures take: most of the time several wait, and in the end everything is overloaded.
arrival_lists = st.lists(st.tuples(st.floats(0, 5), pictures), min_size=1, max_size=14).map(
    lambda pairs: [(sum(gap for gap, _ in pairs[: n + 1]), picture) for n, (_, picture) in enumerate(pairs)]
)


# How long a simulation takes is no part of what is tested.
simulated = settings(deadline=None)


@simulated
@given(arrival_lists)
def test_no_picture_ends_later_than_first_come_and_a_share_of_its_own_time_whatever_comes(arrivals):
    served = first_come(arrivals)
    for job, end_s in promised(Device(arrivals).run()):
        assert end_s <= served[job] + LATENESS_SHARE * arrivals[job][1].own_s + LITTLE


@simulated
@given(arrival_lists)
def test_a_first_sight_of_a_shape_costs_others_one_step_at_most(arrivals):
    served = first_come(arrivals)
    longest_s = max(picture.step_s for _, picture in arrivals)
    for job, end_s in promised(Device(arrivals, knows=False).run()):
        assert end_s <= served[job] + LATENESS_SHARE * arrivals[job][1].own_s + longest_s + LITTLE


@simulated
@given(arrival_lists, st.integers(2, 6))
def test_in_the_queue_nobody_waits_more_than_1_3_times_what_is_drawn_before(arrivals, slots):
    device, served = Device(arrivals, slots).run(), first_come(arrivals)
    for job, end_s in promised(device):
        at_s, picture = arrivals[job]
        others_s = sum(
            other.own_s
            for number, (_, other) in enumerate(arrivals)
            if number != job and device.ends_s[number] > at_s and device.slices.index(number) < _last(device, job)
        )
        assert end_s <= served[job] + LATENESS_SHARE * (picture.own_s + others_s) + LITTLE


def _last(device, job):
    return len(device.slices) - 1 - device.slices[::-1].index(job)


@simulated
@given(arrival_lists, st.booleans())
def test_the_maps_of_one_large_picture_are_in_memory_and_of_far_smaller_ones(arrivals, knows):
    for pictures in Device(arrivals, knows=knows).run().at_end:
        for smaller, larger in pairwise(sorted(picture.side for picture in pictures)):
            assert smaller * 2 <= larger


@simulated
@given(arrival_lists, st.integers(1, 6))
def test_the_device_never_idles_and_draws_everything(arrivals, slots):
    device = Device(arrivals, slots).run()
    assert device.ends_s.keys() == set(range(len(arrivals)))
    assert max(device.ends_s.values()) == pytest.approx(max(first_come(arrivals).values()))


@simulated
@given(pictures, st.lists(st.floats(0, 20), min_size=1, max_size=12), st.integers(1, 6))
def test_equal_pictures_are_drawn_one_after_the_other_as_they_came(picture, gaps, slots):
    arrivals = [(sum(gaps[: number + 1]), picture) for number in range(len(gaps))]
    assert Device(arrivals, slots).run().ends_s == pytest.approx(first_come(arrivals))


@simulated
@given(arrival_lists)
def test_one_slot_is_first_come_first_served(arrivals):
    assert Device(arrivals, slots=1).run().ends_s == pytest.approx(first_come(arrivals))


def test_a_short_picture_behind_long_ones_is_done_in_a_tenth_of_the_time():
    draw = random.Random(7)
    longs = [(0.0, LONG)] * 12
    at_s, shorts = 0.0, []
    while (at_s := at_s + draw.expovariate(1.0)) < 9 * LONG.own_s:
        shorts.append((at_s, SHORT))
    arrivals = sorted(longs + shorts, key=lambda arrival: arrival[0])
    device, served = Device(arrivals, slots=4).run(), first_come(arrivals)

    def p95(ends_s):
        times = sorted(ends_s[job] - at_s for job, (at_s, picture) in enumerate(arrivals) if picture is SHORT)
        return times[int(len(times) * 0.95)]

    assert len(shorts) > 100
    assert p95(device.ends_s) <= 0.02 * p95(served)
    begins = {job: device.slices.index(job) for job in device.ends_s}
    spans_s = []
    for job, (_, picture) in enumerate(arrivals):
        if picture is LONG:
            spans_s.append(sum(device.took_s[begins[job] : _last(device, job) + 1]) / picture.own_s)
    assert max(spans_s) <= 1.3


def test_a_flood_of_short_pictures_cannot_starve_a_long_one():
    arrivals = [(0.0, LONG), *((0.0, SHORT) for _ in range(200))]
    device = Device(arrivals, slots=4).run()
    assert 1.2 * LONG.own_s < device.ends_s[0] <= 1.3 * LONG.own_s + LITTLE


def test_a_picture_of_low_priority_lets_others_go_first_and_is_not_starved_either():
    arrivals = [(0.0, LONG), (0.0, Picture(SCHNELL, 256, 4, is_low=True)), (0.0, SHORT)]
    assert list(Device(arrivals).run().ends_s) == [2, 0, 1]
    low = Picture(DEV, 1024, 28, is_low=True)
    flood = [(0.0, low), *((0.0, SHORT) for _ in range(200))]
    assert Device(flood, slots=4).run().ends_s[0] <= 1.3 * low.own_s + LITTLE


def test_there_is_room_for_what_would_be_drawn_at_once():
    turns = Turns(2)
    assert turns.room().at_most is None
    turns.add("long", LONG.shape, LONG.steps)
    # Nothing is known of this device yet.
    assert turns.room() is None
    turns.drawn("long", 0.25, 1)
    assert turns.room() is None
    turns.drawn("long", 0.25, 2)
    room = turns.room()
    # A quarter of 50 steps, and the time until the last one but for a tenth of a second; pixels count as a step.
    assert room.at_most == pytest.approx(12.5 * LONG.shape.work, rel=1e-3)
    assert room.for_s == pytest.approx(49 * 0.25 - 0.1)
    turns.add("short", SHORT.shape, SHORT.steps)
    assert turns.next() == "short"
    # Both slots are taken.
    assert turns.room() is None
    turns.remove("short")
    for step in range(3, 51):
        turns.drawn("long", 0.25, step)
    # Only pixels are missing: what would be longer than they are may wait until then.
    assert 0 < turns.room().at_most <= LONG.shape.work
    turns.drawn("long", 0.25, None)
    assert turns.room().at_most is None


def test_a_picture_that_is_drawn_once_more_is_as_long_as_before():
    turns = Turns(2)
    turns.add("long", LONG.shape, 10)
    for step in range(1, 11):
        turns.drawn("long", 1.0, step)
    turns.drawn("long", 1.0, None)
    assert turns.room().at_most is None
    # Out of memory: from the beginning, in less.
    turns.drawn("long", 0.0, None)
    turns.drawn("long", 1.0, 1)
    turns.drawn("long", 1.0, 2)
    assert turns.room().for_s == pytest.approx(8 + 1 - 0.1)
