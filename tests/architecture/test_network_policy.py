"""The network refuses what the guard refuses, for the day when the guard has a bug."""

import importlib.util
from ipaddress import ip_address, ip_network
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.guard import DEFAULT_PORTS, METADATA, Guard
from tests.architecture.tree import ROOT

_FOLDER = ROOT / "infra" / "k8s"
_POLICY: dict[str, Any] = yaml.safe_load((_FOLDER / "base" / "downloader-network.yaml").read_text())
_GUARD = Guard()
#: The rule that names blocks of the internet; the others name pods.
_INTERNET = [rule for rule in _POLICY["spec"]["egress"] if any("ipBlock" in place for place in rule["to"])]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("network_policy", _FOLDER / "network_policy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_open(address: str) -> bool:
    parsed = ip_address(address)
    blocks = [place["ipBlock"] for rule in _INTERNET for place in rule["to"]]
    return any(
        parsed in ip_network(block["cidr"]) and not any(parsed in ip_network(part) for part in block["except"])
        for block in blocks
    )


def test_the_policy_is_fresh(generator: ModuleType) -> None:
    stale = generator.POLICY.read_text() != generator.text()

    assert not stale, "run python infra/k8s/network_policy.py"


def test_it_closes_what_it_does_not_open_for_the_downloader_alone() -> None:
    assert _POLICY["spec"]["policyTypes"] == ["Egress"]
    assert _POLICY["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "downloader"


def test_the_internet_is_open_on_the_guards_ports_only() -> None:
    [rule] = _INTERNET

    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("TCP", port) for port in DEFAULT_PORTS}


def test_every_exception_lies_within_its_block_as_kubernetes_demands() -> None:
    outside = [
        part
        for rule in _INTERNET
        for place in rule["to"]
        for part in place["ipBlock"]["except"]
        if not ip_network(part).subnet_of(ip_network(place["ipBlock"]["cidr"]))
    ]

    assert not outside


def test_no_other_rule_names_addresses_or_all_pods() -> None:
    others = [rule for rule in _POLICY["spec"]["egress"] if rule not in _INTERNET]

    assert others
    assert all(place.get("podSelector", {}).get("matchLabels") for rule in others for place in rule["to"])


@pytest.mark.parametrize("address", sorted(map(str, METADATA)))
def test_no_metadata_service_is_reached(address: str) -> None:
    assert not _is_open(address)


@settings(deadline=None)
@given(address=st.ip_addresses().map(str))
def test_network_and_guard_agree_on_every_address(address: str) -> None:
    assert _is_open(address) == (_GUARD.check_address("photos.example.net", address) is None)
