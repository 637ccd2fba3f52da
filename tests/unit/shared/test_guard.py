"""The guard's tables: each rule of the grammar, each class of address, each allowance."""

from ipaddress import ip_address

import pytest

from shared.guard import (
    ANY_PORT,
    MAX_URL,
    METADATA,
    REFUSED_V4,
    REFUSED_V6,
    V6_GLOBAL,
    Guard,
    Policy,
    Refusal,
    Target,
    address_class,
    networks,
)
from shared.reasons import Reason

GOOD = [
    ("http://example.com", "http://example.com/"),
    ("HTTP://Example.COM/a", "http://example.com/a"),
    ("https://example.com:443/a?b=c", "https://example.com/a?b=c"),
    ("http://example.com:8080/a", "http://example.com:8080/a"),
    ("http://example.com/a#part", "http://example.com/a"),
    ("http://example.com?q", "http://example.com/?q"),
    ("http://example.com/a%20b", "http://example.com/a%20b"),
    ("http://example.com/é", "http://example.com/%C3%A9"),
    ("http://a_b.example.com/", "http://a_b.example.com/"),
    ("http://münchen.de/", "http://xn--mnchen-3ya.de/"),
    ("http://example.com./", "http://example.com/"),
    ("http://8.8.8.8/", "http://8.8.8.8/"),
    ("http://[2001:4860:4860:0:0:0:0:8888]/", "http://[2001:4860:4860::8888]/"),
    ("http://example.com/@you", "http://example.com/@you"),
]

BAD = [
    # whole string
    (None, Reason.BAD_URL, "malformed"),
    ("", Reason.BAD_URL, "malformed"),
    ("http://example.com/" + "a" * MAX_URL, Reason.BAD_URL, "malformed"),
    (" http://example.com/", Reason.BAD_URL, "malformed"),
    ("http://example.com/a b", Reason.BAD_URL, "malformed"),
    ("http://exa\tmple.com/", Reason.BAD_URL, "malformed"),
    ("http://example.com/\r\nHost: x", Reason.BAD_URL, "malformed"),
    ("http://example.com/\x7f", Reason.BAD_URL, "malformed"),
    ("http://example.com/\ud800", Reason.BAD_URL, "malformed"),
    ("http://img\\@127.0.0.1/", Reason.BAD_URL, "malformed"),
    # scheme
    ("file:///etc/passwd", Reason.BAD_SCHEME, "scheme"),
    ("ftp://example.com/", Reason.BAD_SCHEME, "scheme"),
    ("data:image/png;base64,AA", Reason.BAD_SCHEME, "scheme"),
    ("example.com/a.jpg", Reason.BAD_URL, "malformed"),
    ("//example.com/a.jpg", Reason.BAD_URL, "malformed"),
    ("http:example.com", Reason.BAD_URL, "malformed"),
    ("http:/example.com", Reason.BAD_URL, "malformed"),
    ("http:///a", Reason.BAD_URL, "malformed"),
    # authority
    ("http://user:secret@example.com/", Reason.BAD_URL, "userinfo"),
    ("http://@example.com/", Reason.BAD_URL, "userinfo"),
    ("http://example%2ecom/", Reason.BAD_URL, "malformed"),
    ("http://[fe80::1%25eth0]/", Reason.BLOCKED_ADDRESS, "zone_id"),
    ("http://[::1/", Reason.BAD_URL, "malformed"),
    ("http://[example.com]/", Reason.BAD_URL, "malformed"),
    ("http://:80/", Reason.BAD_URL, "malformed"),
    ("http://a..com/", Reason.BAD_URL, "malformed"),
    ("http://" + "a" * 64 + ".com/", Reason.BAD_URL, "malformed"),
    ("http://" + "a." * 130 + "com/", Reason.BAD_URL, "malformed"),
    # spellings of addresses
    ("http://2130706433/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://0x7f000001/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://0x7F.1/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://127.1/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://0177.0.0.1/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://127.0.0.1./", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://300.1.1.1/", Reason.BLOCKED_ADDRESS, "numeric_host"),
    ("http://①②⑦.⓪.⓪.①/", Reason.BAD_URL, "idn"),
    ("http://xn--/", Reason.BLOCKED_ADDRESS, "internal_name"),
    # names that mean us
    ("http://localhost/", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://redis/", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://a.localhost/", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://metadata.google.internal/", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://gateway.default.svc/", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://printer.local./", Reason.BLOCKED_ADDRESS, "internal_name"),
    ("http://x.onion/", Reason.BLOCKED_ADDRESS, "internal_name"),
    # ports
    ("http://example.com:22/", Reason.BLOCKED_PORT, "port"),
    ("http://example.com:6379/", Reason.BLOCKED_PORT, "port"),
    ("http://example.com:0/", Reason.BAD_URL, "malformed"),
    ("http://example.com:65536/", Reason.BAD_URL, "malformed"),
    ("http://example.com:/", Reason.BAD_URL, "malformed"),
    ("http://example.com:١٢/", Reason.BAD_URL, "malformed"),
    ("http://example.com:+80/", Reason.BAD_URL, "malformed"),
]

ADDRESSES = [
    ("0.0.0.0", "unspecified"),
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("172.32.0.0", None),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "shared"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.1.1", "link_local"),
    ("192.0.0.8", "reserved"),
    ("192.0.2.1", "reserved"),
    ("192.88.99.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("198.51.100.1", "reserved"),
    ("203.0.113.1", "reserved"),
    ("224.0.0.1", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("1.1.1.1", None),
    ("223.255.255.255", None),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::7f00:1", "embedded_ipv4"),
    ("::ffff:8.8.8.8", "embedded_ipv4"),
    ("::ffff:0:808:808", "embedded_ipv4"),
    ("64:ff9b::808:808", "embedded_ipv4"),
    ("64:ff9b:1::1", "embedded_ipv4"),
    ("2001::1", "embedded_ipv4"),
    ("2002:808:808::1", "embedded_ipv4"),
    ("2001:20::1", "reserved"),
    ("2001:db8::1", "reserved"),
    ("3fff::1", "reserved"),
    ("fc00::1", "private"),
    ("fe80::1", "link_local"),
    ("fec0::1", "reserved"),
    ("ff02::1", "multicast"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("100::1", "reserved"),
    ("2606:4700::1111", None),
]


@pytest.mark.parametrize(("url", "expected"), GOOD)
def test_a_public_url_passes_in_its_one_spelling(url: str, expected: str) -> None:
    target = Guard().check_url(url)

    assert isinstance(target, Target)
    assert target.url == expected


@pytest.mark.parametrize(("url", "reason", "detail"), BAD)
def test_a_url_that_breaks_a_rule_is_refused_not_repaired(url: str | None, reason: Reason, detail: str) -> None:
    assert Guard().check_url(url) == Refusal(reason, detail)


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_each_address_has_its_class(address: str, expected: str | None) -> None:
    assert address_class(ip_address(address)) == expected


@pytest.mark.parametrize("address", [*(address for address, _ in ADDRESSES), *sorted(map(str, METADATA))])
def test_a_firewall_with_the_table_refuses_what_the_guard_refuses(address: str) -> None:
    parsed = ip_address(address)
    is_open = (
        not any(parsed in block for block in REFUSED_V4)
        if parsed.version == 4
        else parsed in V6_GLOBAL and not any(parsed in block for block in REFUSED_V6)
    )

    assert is_open == (Guard().check_address("example.com", address) is None)


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_a_literal_is_judged_like_an_answer_and_a_dialled_address(address: str, expected: str | None) -> None:
    guard = Guard()
    literal = f"[{address}]" if ":" in address else address

    verdict = guard.check_url(f"http://{literal}/")

    refusal = None if expected is None else Refusal(Reason.BLOCKED_ADDRESS, expected)
    assert (None if isinstance(verdict, Target) else verdict) == refusal
    assert guard.check_answer("example.com", [address]) == refusal
    assert guard.check_address("example.com", address) == refusal


def test_one_bad_address_refuses_the_name() -> None:
    answer = ["93.184.216.34", "10.0.0.1", "2606:4700::1111"]

    assert Guard().check_answer("example.com", answer) == Refusal(Reason.BLOCKED_ADDRESS, "private")


@pytest.mark.parametrize("answer", ["fe80::1%eth0", "2606:4700::1111%1"])
def test_an_answer_with_a_zone_is_refused(answer: str) -> None:
    assert Guard().check_answer("example.com", [answer]) == Refusal(Reason.BLOCKED_ADDRESS, "zone_id")


@pytest.mark.parametrize("address", sorted(map(str, METADATA)))
def test_no_allowance_opens_a_metadata_address(address: str) -> None:
    everything = Policy(
        allow_names=frozenset({"example.com"}),
        allow_cidrs=networks(["0.0.0.0/0", "::/0"]),
        allow_ports=frozenset({ANY_PORT}),
    )
    literal = f"[{address}]" if ":" in address else address

    assert Guard(everything).check_url(f"http://{literal}/") == Refusal(Reason.BLOCKED_ADDRESS, "metadata")
    assert Guard(everything).check_address("example.com", address) == Refusal(Reason.BLOCKED_ADDRESS, "metadata")


class TestAllowances:
    policy = Policy(
        allow_names=frozenset({"fixtures"}), allow_cidrs=networks(["127.0.0.0/8"]), allow_ports=frozenset({5000})
    )

    @pytest.mark.parametrize("url", ["http://fixtures/", "http://fixtures:5000/", "http://127.0.0.1:5000/"])
    def test_what_is_allowed_passes(self, url: str) -> None:
        assert isinstance(Guard(self.policy).check_url(url), Target)

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://other/", Reason.BLOCKED_ADDRESS),
            ("http://fixtures:5001/", Reason.BLOCKED_PORT),
            ("http://example.com:5000/", Reason.BLOCKED_PORT),
            ("http://10.0.0.1:5000/", Reason.BLOCKED_ADDRESS),
            ("http://8.8.8.8:5000/", Reason.BLOCKED_PORT),
        ],
    )
    def test_nothing_else_gains_by_it(self, url: str, reason: Reason) -> None:
        verdict = Guard(self.policy).check_url(url)

        assert isinstance(verdict, Refusal)
        assert verdict.reason is reason

    def test_only_allowed_names_may_resolve_into_allowed_addresses(self) -> None:
        guard = Guard(self.policy)

        assert guard.check_answer("fixtures", ["127.0.0.1"]) is None
        assert guard.check_answer("rebinding.example.com", ["127.0.0.1"]) == Refusal(Reason.BLOCKED_ADDRESS, "loopback")

    def test_denied_addresses_stay_denied(self) -> None:
        policy = Policy(allow_cidrs=networks(["127.0.0.0/8"]), deny_cidrs=networks(["127.0.0.2/32"]))

        assert Guard(policy).check_url("http://127.0.0.2/") == Refusal(Reason.BLOCKED_ADDRESS, "extra_deny")


@pytest.mark.parametrize("host", ["example.com", "img.example.com", "EXAMPLE.com."])
def test_a_denied_name_covers_the_names_below(host: str) -> None:
    guard = Guard(Policy(deny_names=frozenset({"example.com"})))

    assert guard.check_url(f"http://{host}/") == Refusal(Reason.BLOCKED_HOST, "deny_names")
    assert isinstance(guard.check_url("http://notexample.com/"), Target)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "http://example.com/b"),
        ("c?d", "http://example.com/dir/c?d"),
        ("../e", "http://example.com/e"),
        ("//other.com/f", "http://other.com/f"),
        ("https://other.com/g", "https://other.com/g"),
    ],
)
def test_a_redirect_is_resolved_against_its_source(location: str, expected: str) -> None:
    guard = Guard()
    source = guard.check_url("http://example.com/dir/a")
    assert isinstance(source, Target)

    target = guard.check_redirect(source, location)

    assert isinstance(target, Target)
    assert target.url == expected


@pytest.mark.parametrize(
    ("location", "detail"),
    [
        (None, "malformed"),
        ("", "malformed"),
        ("/a\tb", "malformed"),
        ("http:\\\\127.0.0.1", "malformed"),
        ("http://[::1", "malformed"),
        ("file:///etc/passwd", "scheme"),
        ("http://u:p@example.com/", "userinfo"),
        ("http://169.254.169.254/", "metadata"),
        ("http://127.0.0.1/", "loopback"),
        ("http://localhost/", "internal_name"),
        ("http://example.com:22/", "port"),
    ],
)
def test_a_redirect_to_where_we_may_not_go_is_blocked(location: str | None, detail: str) -> None:
    guard = Guard()
    source = guard.check_url("http://example.com/")
    assert isinstance(source, Target)

    assert guard.check_redirect(source, location) == Refusal(Reason.REDIRECT_BLOCKED, detail)
