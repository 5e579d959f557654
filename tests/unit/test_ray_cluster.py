"""What is decided about actors, without a cluster."""

import socket

import pytest

from flux_endpoint.fleet.ray_cluster import chosen, is_loopback, is_of_this_machine
from flux_endpoint.fleet.ray_host import HostReport
from flux_endpoint.fleet.ray_messages import DriverSettings, FleetReport, FleetRequest, PlacedWorker


def report(worker_id="w", digest="now", has_left=False):
    return HostReport("host", digest, worker_id, 7, 0, "", None, has_left)


def choose(reports, count, kind="gpu", busy=()):
    return sorted(chosen(reports, FleetRequest(count, busy=frozenset(busy)), kind, "now"))


def test_an_empty_cluster_gets_the_first_names():
    assert choose({}, 2) == ["gpu-0", "gpu-1"]
    assert choose({}, 0) == []


def test_who_is_there_stays_and_gaps_are_filled():
    assert choose({"gpu-0": report(), "gpu-3": None}, 3) == ["gpu-0", "gpu-1", "gpu-3"]


def test_of_too_many_the_busy_stay_and_the_highest_numbers_go():
    there = {f"gpu-{number}": report(f"w{number}") for number in (0, 1, 2, 10)}
    assert choose(there, 2) == ["gpu-0", "gpu-1"]
    assert choose(there, 2, busy=["w2", "w10"]) == ["gpu-10", "gpu-2"]


def test_who_has_old_settings_or_was_told_to_leave_goes_and_others_come():
    there = {"gpu-0": report(digest="old"), "gpu-1": report(has_left=True), "gpu-2": report()}
    assert choose(there, 3) == ["gpu-2", "gpu-3", "gpu-4"]


def test_of_another_kind_than_the_cluster_s_none_stays():
    assert choose({"cpu-0": report(), "by-hand": report()}, 1) == ["gpu-0"]


def test_nobody_is_placed_or_ended_while_the_cluster_has_nothing_to_place_on():
    assert choose({}, 3, kind=None) == []
    assert choose({"cpu-0": None, "gpu-0": report()}, 3, kind=None) == ["cpu-0", "gpu-0"]


def test_addresses_that_mean_another_machine_on_each_machine():
    assert all(map(is_loopback, ["http://127.0.0.1:8000", "http://127.8.0.1", "http://localhost:1", "http://[::1]:2"]))
    assert not any(map(is_loopback, ["http://10.0.0.7:8000", "https://pictures.example.org", "http://[fd00::1]:2"]))


def test_addresses_of_this_machine():
    assert is_of_this_machine("127.0.0.1")
    assert is_of_this_machine("::1") or not socket.has_ipv6
    # Kept for documentation: nobody has it.
    assert not is_of_this_machine("203.0.113.7")


@pytest.mark.parametrize(
    "said",
    [
        FleetRequest(3, frozenset({"b", "a"}), frozenset(), frozenset({"c"})),
        FleetRequest(),
        FleetReport({"gpu-0": PlacedWorker("h", "w", 1, 2, "signal SIGKILL", None), "gpu-1": None}),
        FleetReport({}, ("a",), ("b",), "no way"),
        DriverSettings(None, "n", "http://g", "cpu", {"TOKEN": "secret"}),
    ],
)
def test_what_is_said_arrives(said):
    line = said.to_json()
    assert "\n" not in line
    assert type(said).from_json(line) == said
    assert "secret" not in repr(said)
