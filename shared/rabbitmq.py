"""RabbitMQ as the broker: what its address says, and how Celery must be set up to be safe on it.

    amqps://user:password@host:5671/vhost?ssl_ca_certs=/etc/ca.pem      several with ; between them: a cluster's nodes

Queues are quorum queues, which outlive a node; each bell is confirmed before it counts as rung. RabbitMQ pushes, so a
worker would hoard bells that others could answer: bells are acknowledged late here, and no more of them are out than
the worker has children. What a dying worker had is pushed to another one, whose claim the database refuses or grants.
"""

import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

SCHEMES = ("amqp", "amqps")

#: Seconds without a word after which a connection counts as dead: twice the heartbeat that both sides agree on.
HEARTBEAT_SECONDS = 10
#: Seconds. RabbitMQ answers at once, or not at all: while it is short of memory or disk it takes no messages.
_CONNECT_SECONDS = 3
ANSWER_SECONDS = 3.0

#: Declared alike by everybody, or RabbitMQ refuses.
QUEUE_ARGUMENTS = {"x-queue-type": "quorum"}
#: A bell counts as rung when RabbitMQ has confirmed it.
PUBLISHING = {"confirm_timeout": ANSWER_SECONDS, "timeout": ANSWER_SECONDS}
TRANSPORT_OPTIONS = {"confirm_publish": True}


def is_rabbitmq(url: str) -> bool:
    return urlsplit(url).scheme in SCHEMES


def check(url: str) -> None:
    """Raises ValueError for an address that cannot be meant."""
    for node in url.split(";"):
        parts = urlsplit(node)
        unknown = set(parse_qs(parts.query, keep_blank_values=True)) - {"ssl_ca_certs"}
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("RabbitMQ's address must be amqp://user:password@host:port/vhost")
        if unknown:
            raise ValueError(
                f"RabbitMQ's address may say ssl_ca_certs and nothing else, not {', '.join(sorted(unknown))}"
            )


def celery_url(url: str) -> str:
    """The address without what only we read."""
    return ";".join(node.partition("?")[0] for node in url.split(";"))


def celery_settings(url: str) -> dict[str, Any]:
    """What is set otherwise than on Redis."""
    return {
        "broker_use_ssl": _tls(url) if urlsplit(url).scheme == "amqps" else None,
        "broker_connection_timeout": _CONNECT_SECONDS,
        "broker_heartbeat": HEARTBEAT_SECONDS,
        "task_acks_late": True,
        "worker_detect_quorum_queues": True,
        "worker_disable_prefetch": False,
    }


def _tls(url: str) -> dict[str, Any]:
    """The server's certificate and name are checked, by an authority of our own or by the system's."""
    first, _, others = url.partition(";")
    named = parse_qs(urlsplit(first).query).get("ssl_ca_certs")
    # None: of the node that is connected to. Told here where it is known, for kombu makes a number of localhost.
    host = None if others else urlsplit(first).hostname
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host} | ({"ca_certs": named[0]} if named else {})
