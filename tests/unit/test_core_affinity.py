"""Which job a worker takes first, by the LoRAs that it and others have."""

import pytest

from flux_endpoint.core.affinity import LEFT_MS, PASSED_OVER_MS, Affinity, WaitingJob, in_turn, lora_set
from flux_endpoint.core.raw_json import RawJson

NOW_MS = 1_000_000
A, B, C = ("dev", "a"), ("dev", "b"), ("dev", "b", "c")


def waiting(*jobs):
    """Jobs in the order of the queue, each a set, and how long it has waited, milliseconds; numbered from 1."""
    return [WaitingJob(seq, NOW_MS - age_ms, loras) for seq, (loras, age_ms) in enumerate(jobs, 1)]


def young(*sets):
    return waiting(*((loras, 1_000) for loras in sets))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((), [1, 2, 3, 4, 5]),
        ((A,), [3, 5, 1, 2, 4]),
        ((B, A), [2, 3, 5, 1, 4]),
        ((A, B), [3, 5, 2, 1, 4]),
        ((("schnell", "a"),), [1, 2, 3, 4, 5]),
    ],
)
def test_jobs_whose_loras_a_worker_has_come_first_and_those_of_the_latest_set_before_others(held, expected):
    assert in_turn(young((), B, A, C, A), Affinity(held), NOW_MS) == expected


def test_who_has_waited_for_too_long_is_passed_over_by_none():
    jobs = waiting(((), PASSED_OVER_MS + 2), (B, PASSED_OVER_MS + 1), (B, PASSED_OVER_MS), ((), 50), (A, 20))
    assert in_turn(jobs, Affinity((A,)), NOW_MS) == [1, 2, 5, 3, 4]


def test_what_an_idle_worker_has_is_left_to_it_for_a_moment():
    jobs = waiting((A, LEFT_MS + 1), (A, LEFT_MS), ((), 100), (B, 50), (A, 0), (A, -1))
    assert in_turn(jobs, Affinity((B,), frozenset({A})), NOW_MS) == [4, 1, 3, 6]


def test_nothing_waits_for_nobody():
    assert in_turn([], Affinity((A,), frozenset({B})), NOW_MS) == []


def entry(sha256, scale=1.0):
    return {"path": "x", "scale": scale, "sha256": sha256}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ()),
        ({"loras": []}, ()),
        ({"loras": [entry("b", 0.5), entry("a")]}, ("dev", "a", "b")),
        ({"loras": [entry("a", -1.0), entry("b")]}, ("dev", "a", "b")),
        # Inputs of custom endpoints.
        ({"loras": "a"}, ()),
        ({"loras": {"a": 1}}, ()),
        ({"loras": ["a", None, {"sha256": 1}, {"sha256": ""}, {"sha256": ["a"]}]}, ()),
        (RawJson('{"loras": [{"sha256": "a"}]}'), ()),
    ],
)
def test_a_set_is_the_hashes_of_the_files(fields, expected):
    assert lora_set("dev", fields) == expected
