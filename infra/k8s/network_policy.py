"""Writes base/downloader-network.yaml from the guard's address table; a test refuses a stale one.

The guard is the first wall and may have a bug; the network is the second. Run it after a change of the table:
`python infra/k8s/network_policy.py`.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from shared.guard import DEFAULT_PORTS, REFUSED_V4, REFUSED_V6, V6_GLOBAL

POLICY = Path(__file__).with_name("base") / "downloader-network.yaml"

_HEAD = """\
# Written by network_policy.py from the address table of shared/guard.py: change the table, then run it.
#
# What a downloader may reach: names, Redis, PostgreSQL, and of the internet what the guard lets pass. Policies add up:
# name a managed Redis, a PostgreSQL or a private store in one of your own. Without a network plug-in that enforces
# policies this changes nothing.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: pixcrawler-downloader
  labels:
    app.kubernetes.io/part-of: pixcrawler
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/part-of: pixcrawler
      app.kubernetes.io/component: downloader
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: kube-system
          podSelector:
            matchLabels:
              k8s-app: kube-dns
      ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
"""

_SERVERS = (("redis", 6379), ("postgresql", 5432))


def text() -> str:
    """The policy as it must stand in the file."""
    return _HEAD + "\n".join([*_servers(), *_internet()]) + "\n"


def _servers() -> Iterator[str]:
    for component, port in _SERVERS:
        yield "    - to:"
        yield "        - podSelector:"
        yield "            matchLabels:"
        yield "              app.kubernetes.io/part-of: pixcrawler"
        yield f"              app.kubernetes.io/component: {component}"
        yield from _ports([port])


def _internet() -> Iterator[str]:
    yield "    - to:"
    yield from _block(IPv4Network("0.0.0.0/0"), REFUSED_V4)
    yield from _block(V6_GLOBAL, REFUSED_V6)
    yield from _ports(sorted(DEFAULT_PORTS))


def _block(whole: IPv4Network | IPv6Network, refused: Iterable[IPv4Network | IPv6Network]) -> Iterator[str]:
    yield "        - ipBlock:"
    yield f'            cidr: "{whole}"'
    yield "            except:"
    for network in refused:
        yield f'              - "{network}"'


def _ports(ports: Iterable[int]) -> Iterator[str]:
    yield "      ports:"
    for port in ports:
        yield f"        - {{protocol: TCP, port: {port}}}"


if __name__ == "__main__":
    POLICY.write_text(text())
