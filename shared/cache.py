"""The Redis client every service uses: bounded waits, no hidden repeats.

redis-py repeats every command ten times by default, also those that must not be repeated; and a read that
blocks needs a longer limit than the ordinary one.
"""

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_SECONDS_TO_ANSWER = 3.0
_SECONDS_TO_CONNECT = 2.0


def open_redis(url: SecretStr, *, connections: int = 16) -> Redis:
    """A client for the running event loop, which answers bytes. Close it with `aclose()`."""
    return Redis.from_url(
        url.get_secret_value(),
        max_connections=connections,
        socket_timeout=_SECONDS_TO_ANSWER,
        socket_connect_timeout=_SECONDS_TO_CONNECT,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )
