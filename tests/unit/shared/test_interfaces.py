"""A worker does not fetch from its own machine, whatever its addresses look like."""

from ipaddress import ip_address
from types import SimpleNamespace

import psutil
import pytest

from downloader.settings import DownloaderSettings
from shared.guard import Guard, Refusal, Target, networks
from shared.interfaces import own_networks
from shared.reasons import Reason

#: As psutil tells them: a hardware address, addresses with and without a zone, two of them public.
INTERFACES = {
    "lo": [SimpleNamespace(address="127.0.0.1"), SimpleNamespace(address="::1")],
    "eth0": [
        SimpleNamespace(address="02:42:ac:11:00:02"),
        SimpleNamespace(address="172.17.0.2"),
        SimpleNamespace(address="93.184.215.14"),
        SimpleNamespace(address="2606:4700:10::6816:1"),
        SimpleNamespace(address="fe80::42:acff:fe11:2%eth0"),
    ],
}


def test_of_our_addresses_the_public_ones_are_added_to_the_table() -> None:
    assert set(own_networks(lambda: INTERFACES)) == set(networks(["93.184.215.14/32", "2606:4700:10::6816:1/128"]))


def test_our_own_public_address_is_not_fetched_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    guard = Guard(DownloaderSettings().policy())

    assert guard.check_url("http://93.184.215.14/") == Refusal(Reason.BLOCKED_ADDRESS, "extra_deny")
    assert guard.check_answer("us.example.net", ["2606:4700:10::6816:1"]) is not None
    assert isinstance(guard.check_url("http://93.184.215.15/"), Target)


def test_an_allowance_for_a_private_network_we_are_in_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    settings = DownloaderSettings(allow_cidrs=("172.17.0.0/16",))

    assert isinstance(Guard(settings.policy()).check_url("http://172.17.0.2/"), Target)


def test_the_addresses_of_this_machine_are_all_refused() -> None:
    guard = Guard(DownloaderSettings().policy())
    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries]

    passing = [
        address for address in own if _is_address(address) and guard.check_address("a.example.net", address) is None
    ]

    assert passing == []


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
