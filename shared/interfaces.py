"""The addresses of this machine: public ones too lead inside, to services that trust whoever is near."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import psutil

from shared.guard import Network, address_class

#: Lists the addresses of each interface, as psutil does.
List = Callable[[], Mapping[str, Iterable[Any]]]


def own_networks(list_interfaces: List | None = None) -> tuple[Network, ...]:
    """A block for each of our addresses that the guard would take for public; the others it refuses by itself."""
    texts = {
        entry.address.partition("%")[0]
        for entries in (list_interfaces or psutil.net_if_addrs)().values()
        for entry in entries
    }
    return tuple(block for text in sorted(texts) if (block := _public(text)) is not None)


def _public(text: str) -> Network | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None  # a hardware address
    return ip_network(address) if address_class(address) is None else None
