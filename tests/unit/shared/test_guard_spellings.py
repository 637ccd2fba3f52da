"""No spelling of an address that is denied passes, in a URL, in an answer, at the end of a redirect."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.guard import METADATA, Guard, Refusal, Target

GUARD = Guard()
#: On a busy machine a single example may take long.
unhurried = settings(deadline=None)

#: From RFC 6890's registry and its successors, on purpose not from the guard's own table.
DENIED_V4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
]  # fmt: skip
DENIED_V6 = [
    "::/8", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    "4000::/3", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip

ipv4 = st.one_of(
    *(st.ip_addresses(v=4, network=block) for block in DENIED_V4),
    st.sampled_from([address for address in METADATA if address.version == 4]),
)
ipv6 = st.one_of(
    *(st.ip_addresses(v=6, network=block) for block in DENIED_V6),
    st.sampled_from([address for address in METADATA if address.version == 6]),
)
anywhere_v4 = st.ip_addresses(v=4)


def _octets(address: IPv4Address, *formats: str) -> str:
    return ".".join(format.format(octet) for format, octet in zip(formats, address.packed, strict=True))


def _short(address: IPv4Address) -> str:
    """The last part holds what is left, as `127.1` does."""
    first, rest = address.packed[0], int(address) & 0xFFFFFF
    return f"{first}.{rest}"


V4_SPELLINGS: dict[str, Callable[[IPv4Address], str]] = {
    "dotted": str,
    "decimal": lambda a: str(int(a)),
    "decimal_overflown": lambda a: str(int(a) + 2**32),
    "hexadecimal": lambda a: hex(int(a)),
    "upper_hexadecimal": lambda a: f"0X{int(a):08X}",
    "octal": lambda a: f"0{int(a):o}",
    "octal_dotted": lambda a: _octets(a, *["0{:o}"] * 4),
    "padded_dotted": lambda a: _octets(a, *["{:04d}"] * 4),
    "hexadecimal_dotted": lambda a: _octets(a, *["0x{:x}"] * 4),
    "mixed": lambda a: _octets(a, "{}", "0{:o}", "0x{:x}", "{}"),
    "short": _short,
    "root_dot": lambda a: f"{a}.",
    "two_root_dots": lambda a: f"{a}..",
    "full_width": lambda a: str(a).translate({48 + digit: 0xFF10 + digit for digit in range(10)}),
    "ideographic_dots": lambda a: str(a).replace(".", "\u3002"),
    "percent": lambda a: "".join(f"%{ord(character):02x}" for character in str(a)),
    "bracketed": lambda a: f"[{a}]",
}

#: Where IPv6 carries an IPv4 address: before it and after it.
_EMBEDDINGS: dict[str, Callable[[int], int]] = {
    "compatible": lambda v4: v4,
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "nat64": lambda v4: 0x0064FF9B << 96 | v4,
    "local_nat64": lambda v4: 0x0064FF9B0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "teredo_server": lambda v4: 0x20010000 << 96 | v4 << 64,
    "teredo_client": lambda v4: 0x20010000 << 96 | v4 ^ 0xFFFFFFFF,
}

V6_SPELLINGS: dict[str, Callable[[IPv6Address], str]] = {
    "compressed": str,
    "exploded": lambda a: a.exploded,
    "upper": lambda a: str(a).upper(),
    "dotted_tail": lambda a: f"{':'.join(a.exploded.split(':')[:6])}:{IPv4Address(int(a) & 0xFFFFFFFF)}",
    "zone": lambda a: f"{a}%eth0",
    "escaped_zone": lambda a: f"{a}%25eth0",
}


def assert_refused(host: str) -> None:
    """In the list, with a port, and where a redirect leads."""
    source = GUARD.check_url("http://photos.example.net/a")
    assert isinstance(source, Target)
    for url in (f"http://{host}/x.png", f"https://{host}:8443", f"//{host}/"):
        assert isinstance(GUARD.check_redirect(source, url), Refusal), url
        assert isinstance(GUARD.check_url(url), Refusal), url


def assert_not_dialled(address: str) -> None:
    """Neither as an answer among good ones nor when the socket opens."""
    assert isinstance(GUARD.check_answer("photos.example.net", ["93.184.215.14", address]), Refusal)
    assert isinstance(GUARD.check_address("photos.example.net", address), Refusal)


@pytest.mark.parametrize("spell", V4_SPELLINGS.values(), ids=V4_SPELLINGS)
@unhurried
@given(address=ipv4)
def test_no_spelling_of_a_denied_ipv4_address_passes(spell: Callable[[IPv4Address], str], address: IPv4Address) -> None:
    assert_refused(spell(address))
    assert_not_dialled(spell(address))


@pytest.mark.parametrize("embed", _EMBEDDINGS.values(), ids=_EMBEDDINGS)
@unhurried
@given(address=st.one_of(ipv4, anywhere_v4))
def test_no_ipv6_address_that_carries_an_ipv4_address_passes(embed: Callable[[int], int], address: IPv4Address) -> None:
    carrier = IPv6Address(embed(int(address)))

    for spell in V6_SPELLINGS.values():
        assert_refused(f"[{spell(carrier)}]")
    assert_not_dialled(str(carrier))


@pytest.mark.parametrize("spell", V6_SPELLINGS.values(), ids=V6_SPELLINGS)
@unhurried
@given(address=ipv6)
def test_no_spelling_of_a_denied_ipv6_address_passes(spell: Callable[[IPv6Address], str], address: IPv6Address) -> None:
    assert_refused(f"[{spell(address)}]")
    assert_not_dialled(spell(address))


@unhurried
@given(address=st.ip_addresses(v=6).filter(lambda a: a not in IPv6Network("2000::/3")))
def test_only_global_unicast_of_ipv6_passes(address: IPv6Address) -> None:
    assert_refused(f"[{address}]")
    assert_not_dialled(str(address))


@unhurried
@given(
    address=anywhere_v4.filter(lambda a: not any(a in ip_network(block) for block in DENIED_V4) and a not in METADATA)
)
def test_every_other_ipv4_address_is_public(address: IPv4Address) -> None:
    assert isinstance(GUARD.check_url(f"http://{address}/"), Target)
    assert GUARD.check_address("photos.example.net", str(address)) is None


@unhurried
@given(url=st.text(max_size=80))
def test_any_text_is_judged_without_an_error(url: str) -> None:
    source = GUARD.check_url("http://photos.example.net/a")
    assert isinstance(source, Target)

    for text in (url, f"http://{url}", f"http://photos.example.net/{url}"):
        assert isinstance(GUARD.check_url(text), Target | Refusal)
        assert isinstance(GUARD.check_redirect(source, text), Target | Refusal)
