"""How often a tenant may ask: counted in Redis, so that all copies of the gateway count together.

Key `pixcrawler:rate:<tenant>:<minute>`: requests answered in that minute since the epoch; expires after two.

The window slides: what was asked in the minute before counts for the part of it that still lies within 60 s. A
refused request is not counted, so waiting as long as told is enough. Without Redis nobody is limited: a gateway
goes on accepting jobs then.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.problems import ApiError, Code

WINDOW_SECONDS = 60
#: Nobody waits longer for Redis than this, and after it did not answer nobody waits at all for a while.
_PATIENCE_SECONDS, _REST_SECONDS = 1.0, 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What is left of a tenant's requests, as the header fields RateLimit-Policy and RateLimit tell it."""

    limit: int
    left: int
    reset_seconds: int  #: when the window that is counted now ends

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"requests";r={self.left};t={self.reset_seconds}',
        }


class RateLimiter:
    """Counts requests by tenant."""

    def __init__(self, redis: Redis, *, limit: int, now: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._limit = limit
        self._now = now
        self._rests_until = 0.0

    async def count(self, tenant_id: UUID) -> Rate | None:
        """Counts a request and tells what is left; None while Redis is away. Raises ApiError (429) above the limit."""
        if time.monotonic() < self._rests_until:
            return None
        window, elapsed = divmod(self._now(), WINDOW_SECONDS)
        key = f"pixcrawler:rate:{tenant_id}:{int(window)}"
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                used = await self._used(key, f"pixcrawler:rate:{tenant_id}:{int(window) - 1}", elapsed)
                left = math.floor(self._limit - used)
                if left < 0:
                    await self._redis.decr(key)
        except (RedisError, OSError, TimeoutError):
            log.warning("requests_not_counted")
            self._rests_until = time.monotonic() + _REST_SECONDS
            return None
        rate = Rate(limit=self._limit, left=max(0, left), reset_seconds=math.ceil(WINDOW_SECONDS - elapsed))
        if left < 0:
            raise _refusal(rate)
        return rate

    async def _used(self, key: str, before: str, elapsed: float) -> float:
        """Requests within the last 60 s, this one included."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.incr(key)
        pipe.expire(key, 2 * WINDOW_SECONDS)
        pipe.get(before)
        now, _, earlier = await pipe.execute()
        return float(now) + int(earlier or 0) * (1 - elapsed / WINDOW_SECONDS)


def _refusal(rate: Rate) -> ApiError:
    return ApiError(
        Code.RATE_LIMITED,
        f"more than {rate.limit:,} requests in {WINDOW_SECONDS} s; wait as long as Retry-After says",
        headers={**rate.headers(), "Retry-After": str(rate.reset_seconds)},
    )
