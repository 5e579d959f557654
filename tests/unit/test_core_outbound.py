"""Which addresses are refused, in which disguise, and what the allow list opens."""

from ipaddress import ip_address

import pytest

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.outbound import (
    PUBLIC_ONLY,
    literal_address,
    origin_of,
    parse_outbound_allow,
    without_secrets,
)

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.169.0.1", "223.0.0.1"]
PUBLIC_V6 = ["2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2001:200::1"]
REFUSED = [
    ("127.0.0.1", "loopback"),
    ("127.255.0.9", "loopback"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.0.1", "private"),
    ("169.254.169.254", "link-local"),
    ("100.64.0.1", "carrier-private"),
    ("100.127.255.255", "carrier-private"),
    ("192.0.0.170", "reserved"),
    ("192.0.2.1", "documentation"),
    ("198.18.0.1", "benchmarking"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "reserved"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "link-local"),
    ("2002:7f00:1::", "loopback"),
    ("2002:a00:1::1", "private"),
    ("64:ff9b::7f00:1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "link-local"),
    ("64:ff9b:1::1", "reserved"),
    ("2001::1", "reserved"),
    ("2001:db8::1", "documentation"),
    ("fc00::1", "private"),
    ("fd12:3456::1", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "private"),
    ("ff02::1", "multicast"),
    ("100::1", "reserved"),
    ("4000::1", "reserved"),
]


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_public_addresses_may_be_called(address):
    assert PUBLIC_ONLY.why_refused("a.example", 443, ip_address(address)) is None


@pytest.mark.parametrize(("address", "kind"), REFUSED)
def test_others_are_refused_with_their_kind(address, kind):
    reason = PUBLIC_ONLY.why_refused("a.example", 443, ip_address(address))
    assert reason is not None
    assert reason.startswith(f"{ip_address(address)} is a {kind} address")
    assert "OUTBOUND_ALLOW" in reason


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "::1", "[::1]", "::ffff:7f00:1"],
)
def test_every_spelling_of_an_address_is_refused_where_it_is_written(host):
    assert literal_address(host) is not None
    url_host = f"[{host}]" if ":" in host and "[" not in host else host
    with pytest.raises(InvalidParameter, match="webhook cannot be called: "):
        PUBLIC_ONLY.check_literal("webhook", f"http://{url_host}/x")


@pytest.mark.parametrize("host", ["a.example", "localhost", "dead.beef", "8.8.8.8", "1.2.3.4.5", "0x7g.1"])
def test_names_and_public_addresses_pass_at_the_door(host):
    PUBLIC_ONLY.check_literal("webhook", f"https://{host}:8443/x")


@pytest.mark.parametrize(
    ("allow", "host", "port", "address", "is_allowed"),
    [
        ("hooks.internal", "hooks.internal", 80, "10.0.0.1", True),
        ("hooks.internal", "HOOKS.internal.", 80, "10.0.0.1", True),
        ("hooks.internal", "other.internal", 80, "10.0.0.1", False),
        ("hooks.internal", "x.hooks.internal", 80, "10.0.0.1", False),
        ("hooks.internal:8080", "hooks.internal", 8080, "10.0.0.1", True),
        ("hooks.internal:8080", "hooks.internal", 80, "10.0.0.1", False),
        ("10.0.0.0/8", "anything", 80, "10.9.9.9", True),
        ("10.0.0.0/8", "anything", 80, "::ffff:10.9.9.9", True),
        ("10.0.0.0/8", "anything", 80, "192.168.0.1", False),
        ("127.0.0.1", "localhost", 9, "127.0.0.1", True),
        ("127.0.0.1:9000", "localhost", 9000, "127.0.0.1", True),
        ("127.0.0.1:9000", "localhost", 9001, "127.0.0.1", False),
        ("[::1]:9000", "::1", 9000, "::1", True),
        ("[::1]:9000", "::1", 9001, "::1", False),
        ("::1", "localhost", 1, "::1", True),
        ("fd00::/8", "x", 1, "fd00::5", True),
        (" a.example , 10.0.0.0/8,", "x", 1, "10.0.0.1", True),
    ],
)
def test_the_allow_list_opens_hosts_places_and_networks(allow, host, port, address, is_allowed):
    rules = parse_outbound_allow(allow)
    assert (rules.why_refused(host, port, ip_address(address)) is None) is is_allowed


@pytest.mark.parametrize("allow", ["10.0.0.1/8", "10.0.0.0/33", "a b", "http://a.example", "a:0", "a:70000", "a:", "-"])
def test_an_entry_that_is_neither_is_named(allow):
    with pytest.raises(ValueError, match=r"' (is no host|has no port)"):
        parse_outbound_allow(allow)


def test_logs_show_urls_without_what_is_secret_in_them():
    url = "https://user:pass@Hooks.example:8443/a/b?token=geheim#part"
    assert without_secrets(url) == "https://Hooks.example:8443/a/b"
    assert origin_of(url) == "https://hooks.example:8443"
    assert origin_of("http://[::1]/x") == "http://[::1]:80"
