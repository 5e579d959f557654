"""Fair shares: whatever others hold, a newcomer finds a place, and nobody has more than is free."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flux_endpoint.core.shares import Receiver, Shares

receivers = st.builds(
    lambda key, host, port: Receiver(key, host, f"http://{host}:{port}"),
    st.sampled_from("abc"),
    st.sampled_from(["x.example", "y.example"]),
    st.integers(80, 82),
)


def receiver(key: str, host: str = "x.example", port: int = 80) -> Receiver:
    return Receiver(key, host, f"http://{host}:{port}")


def take(shares: Shares, key: str, times: int, host: str = "x.example", port: int = 80) -> int:
    return sum(shares.take(receiver(key, host, port), is_on_probation=False) for _ in range(times))


def test_one_key_gets_half_and_two_a_third_each():
    shares = Shares(63, per_host=1_000)
    assert take(shares, "a", 100) == 32
    shares = Shares(63, per_host=1_000)
    for _ in range(100):
        take(shares, "a", 1)
        take(shares, "b", 1)
    assert shares.free == 21


def test_many_hosts_of_one_key_are_still_one_key():
    shares = Shares(64, per_host=16)
    assert sum(take(shares, "a", 1, f"{number}.example") for number in range(400)) == 32
    assert take(shares, "b", 9, "other.example") == 8


def test_one_host_gets_no_more_than_its_own_places_whatever_the_ports():
    shares = Shares(64, per_host=16)
    assert [take(shares, key, 100, port=port) for port, key in enumerate("abcde")] == [8, 4, 2, 1, 1]
    assert list(shares.full_hosts) == ["x.example"]


def test_what_other_senders_hold_counts():
    shares = Shares(64, per_host=16)
    shares.count(receiver("a"), 8, is_on_probation=False)
    assert take(shares, "a", 9) == 0
    assert list(shares.full_pairs) == [("a", "x.example")]
    assert take(shares, "b", 9) == 4


def test_on_probation_one_at_a_time():
    shares = Shares(64, per_host=16)
    assert shares.take(receiver("a"), is_on_probation=True)
    assert not shares.take(receiver("a"), is_on_probation=True)
    # Another key, or another port, is another receiver.
    assert shares.take(receiver("b"), is_on_probation=True)
    assert shares.take(receiver("a", port=81), is_on_probation=True)


@given(st.lists(st.tuples(receivers, st.booleans()), max_size=80), st.integers(0, 12), st.integers(1, 6))
def test_nobody_has_more_than_was_free_and_the_lists_say_who_is_full(
    asked: list[tuple[Receiver, bool]], free: int, per_host: int
) -> None:
    shares = Shares(free, per_host)
    keys: Counter[str] = Counter()
    for one, is_on_probation in asked:
        is_named = (
            one.key_id in shares.full_keys
            or one.host in shares.full_hosts
            or (one.key_id, one.host) in shares.full_pairs
            or (one.key_id, one.origin) in shares.on_probation
        )
        before = shares.free
        is_taken = shares.take(one, is_on_probation=is_on_probation)
        assert is_taken is not (is_named or before == 0)
        keys[one.key_id] += is_taken
        if is_taken:
            assert keys[one.key_id] <= before
    assert shares.free == free - keys.total() >= 0
    is_room = shares.free > 0
    assert shares.take(receiver("new", "new.example"), is_on_probation=False) is is_room
