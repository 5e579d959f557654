"""How many workers there should be, over time; the clock is moved by hand."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.service.autoscaler import Decision, Demand, decide, share_out, workers_needed
from flux_endpoint.stores.fleets.protocol import Pool

DELAY = ScalingRules(0, 10, idle_timeout_s=5, by=ScaleBy.QUEUE_DELAY, threshold=4)
COUNT = replace(DELAY, by=ScaleBy.REQUEST_COUNT)


@pytest.mark.parametrize(
    ("demand", "rules", "workers"),
    [
        (Demand(), DELAY, 0),
        (Demand(), replace(DELAY, min_workers=2), 2),
        # The first job gets a worker at once, also while none is late; the next ones wait for it.
        (Demand(waiting=1), DELAY, 1),
        (Demand(waiting=7), DELAY, 1),
        (Demand(waiting=7, overdue=3), DELAY, 3),
        (Demand(waiting=7, overdue=3, busy=2), DELAY, 5),
        (Demand(waiting=99, overdue=99), DELAY, 10),
        (Demand(waiting=1), COUNT, 1),
        (Demand(waiting=4), COUNT, 1),
        (Demand(waiting=5), COUNT, 2),
        (Demand(waiting=5, running=4, busy=1), COUNT, 3),
        (Demand(waiting=5000), COUNT, 10),
        # Whoever draws something of low priority is not interrupted, and nobody is started for it.
        (Demand(busy=2), DELAY, 2),
        (Demand(busy=2), COUNT, 2),
    ],
)
def test_so_many_are_needed(demand, rules, workers):
    assert workers_needed(demand, rules) == workers


def play(rules, story, start=None):
    """The numbers decided at each (time, demand) of a story."""
    decision, numbers = Decision(rules.min_workers if start is None else start), []
    for now_s, demand in story:
        decision = decide(decision, demand, now_s, rules)
        numbers.append(decision.workers)
    return numbers


def test_a_day_from_zero_and_back():
    idle, busy = Demand(), Demand(running=1, busy=1)
    late = Demand(waiting=2, overdue=2, running=1, busy=1)
    story = [(0, idle), (1, Demand(waiting=1)), (2, busy), (3, late), (4, idle), (8, idle), (9, idle), (10, idle)]
    assert play(DELAY, story) == [0, 1, 1, 3, 3, 3, 0, 0]


def test_what_was_needed_within_the_timeout_is_kept():
    one = Demand(running=1, busy=1)
    story = [
        (0, Demand(waiting=9, overdue=3)),
        (1, Demand()),
        (4, one),
        (6, Demand()),
        (10.9, Demand()),
        (11, Demand()),
    ]
    assert play(DELAY, story) == [3, 3, 3, 1, 1, 0]


def test_a_job_within_the_timeout_needs_no_new_start():
    story = [
        (0, Demand(waiting=1)),
        (1, Demand()),
        (5, Demand(waiting=1)),
        (6, Demand()),
        (10, Demand()),
        (11, Demand()),
    ]
    assert play(DELAY, story) == [1, 1, 1, 1, 1, 0]


def test_whoever_takes_over_keeps_what_is_there_for_a_while():
    assert play(DELAY, [(100, Demand()), (104, Demand()), (105, Demand())], start=4) == [4, 4, 0]


RULES = st.builds(
    lambda least, more, timeout_s, by, threshold: ScalingRules(least, least + more, timeout_s, by, threshold),
    st.integers(0, 4),
    st.integers(0, 20),
    st.integers(1, 60),
    st.sampled_from(ScaleBy),
    st.integers(1, 10),
)
DEMANDS = st.builds(
    lambda waiting, late, running, busy: Demand(waiting, min(late, waiting), running, busy),
    *(st.integers(0, 40) for _ in range(4)),
)
STORIES = st.lists(st.tuples(st.integers(0, 20), DEMANDS), min_size=1, max_size=40).map(
    lambda steps: [(sum(pause for pause, _ in steps[: n + 1]), demand) for n, (_, demand) in enumerate(steps)]
)


@given(RULES, STORIES)
def test_never_more_and_never_fewer_than_allowed(rules, story):
    assert all(rules.min_workers <= number <= rules.max_workers for number in play(rules, story))


@given(RULES, STORIES)
def test_more_come_within_one_look(rules, story):
    for (_, demand), number in zip(story, play(rules, story), strict=True):
        assert number >= workers_needed(demand, rules)


@given(RULES, STORIES)
def test_none_leaves_that_was_needed_within_the_timeout(rules, story):
    numbers = play(rules, story)
    for place, (now_s, _) in enumerate(story):
        lately = [demand for then_s, demand in story[: place + 1] if now_s - then_s < rules.idle_timeout_s]
        assert numbers[place] >= max(workers_needed(demand, rules) for demand in lately)
    falls_s = [story[n][0] for n in range(1, len(numbers)) if numbers[n] < numbers[n - 1]]
    assert all(later - sooner >= rules.idle_timeout_s for sooner, later in itertools.pairwise(falls_s))


@given(RULES, STORIES)
def test_in_the_end_the_fewest_stay(rules, story):
    end_s = story[-1][0]
    quiet = [(end_s + rules.idle_timeout_s * turn, Demand()) for turn in range(1, 5)]
    assert play(rules, [*story, *quiet])[-1] == rules.min_workers


@given(RULES, st.integers(0, 20), st.integers(0, 40))
def test_more_to_do_never_needs_fewer(rules, busy, waiting):
    numbers = [workers_needed(Demand(waiting, late, busy, busy), rules) for late in range(waiting + 1)]
    assert numbers == sorted(numbers)


POOLS = st.lists(
    st.builds(
        lambda least, more, kept, busy: Pool("", least, least + more, kept, min(kept, busy)),
        *(st.integers(0, 5) for _ in range(4)),
    ),
    min_size=1,
    max_size=6,
).map(lambda pools: [replace(pool, name=f"n{number}") for number, pool in enumerate(pools)])


@given(POOLS, st.integers(0, 60))
def test_shares_add_up_within_the_limits_of_each(pools, workers):
    shares = share_out(workers, pools)
    least, most = sum(pool.min_workers for pool in pools), sum(pool.max_workers for pool in pools)
    assert sum(shares.values()) == max(least, min(most, workers))
    assert all(pool.min_workers <= shares[pool.name] <= pool.max_workers for pool in pools)


@given(POOLS, st.integers(0, 60))
def test_nobody_who_works_leaves_while_another_could(pools, workers):
    shares = share_out(workers, pools)
    is_cut = any(shares[pool.name] < min(pool.busy, pool.max_workers) for pool in pools)
    spare = [pool for pool in pools if shares[pool.name] > max(pool.busy, pool.min_workers)]
    assert not (is_cut and spare)


def test_new_workers_go_to_the_smallest_and_old_ones_stay():
    pools = [Pool("a", 0, 4, kept=1, busy=1), Pool("b", 0, 4), Pool("c", 0, 1)]
    assert share_out(1, pools) == {"a": 1, "b": 0, "c": 0}
    assert share_out(4, pools) == {"a": 2, "b": 1, "c": 1}
    assert share_out(7, pools) == {"a": 3, "b": 3, "c": 1}
