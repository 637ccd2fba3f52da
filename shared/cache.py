"""The Redis client every service uses: bounded waits, no hidden repeats.

redis-py repeats every command ten times by default, also those that must not be repeated; and a read that
blocks needs a longer limit than the ordinary one.
"""

from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from shared.sentinel import SentinelAddress, is_sentinel

_PATIENCE = {"socket_timeout": 3.0, "socket_connect_timeout": 2.0}


def open_redis(url: SecretStr, *, connections: int = 16) -> Redis:
    """A client for the running event loop, which answers bytes. Close it with `aclose()`."""
    address = url.get_secret_value()
    options: dict[str, Any] = {
        "max_connections": connections,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
        **_PATIENCE,
    }
    if is_sentinel(address):
        return _behind_sentinels(SentinelAddress.parse(address), options)
    return Redis.from_url(address, **options)


class _Master(Redis):
    """Closes the connections to those who told where it is, too, which redis-py leaves open."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _behind_sentinels(address: SentinelAddress, options: dict[str, Any]) -> Redis:
    """Each new connection asks where the master is; one that was demoted is left at the next write."""
    sentinel = Sentinel(address.sentinels, sentinel_kwargs=_PATIENCE)  # type: ignore[no-untyped-call]
    return sentinel.master_for(  # type: ignore[no-any-return]
        address.master,
        redis_class=_Master,
        db=address.database,
        username=address.username,
        password=address.password,
        **options,
    )
