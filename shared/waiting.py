"""The priority set: chunks that wait for admission, in Redis, so that the next ones are found at once.

Key `pixcrawler:waiting`: a sorted set, chunk id by score, lowest first. It is only ever looked at, never
popped: admission happens in PostgreSQL, and what was admitted is taken out afterwards. So it can be lost,
doubled or stale without harm, and it is rebuilt from the rows.
"""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

KEY = "pixcrawler:waiting"
_REBUILT = KEY + ":rebuilt"
_BLOCK = 5_000


class WaitingSet:
    """The set in one Redis. Methods raise redis.RedisError or OSError when it is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, scores: Mapping[int, float]) -> None:
        """Adds chunks with their scores; one that is there gets the new score."""
        if scores:
            await self._redis.zadd(KEY, {str(chunk): score for chunk, score in scores.items()})

    async def peek(self, count: int) -> list[int]:
        """The next chunks, lowest score first, at most `count`."""
        if count <= 0:
            return []
        first: list[bytes] = await self._redis.zrange(KEY, 0, count - 1)  # type: ignore[assignment]
        return [int(chunk) for chunk in first]

    async def remove(self, chunks: Sequence[int]) -> None:
        """Takes chunks out; those that are not there are no error."""
        if chunks:
            await self._redis.zrem(KEY, *(str(chunk) for chunk in chunks))

    async def size(self) -> int:
        return int(await self._redis.zcard(KEY))

    async def rebuild(self, scores: Mapping[int, float]) -> None:
        """Replaces the whole set at once; readers see the old or the new one."""
        await self._redis.delete(_REBUILT)
        pending = [(str(chunk), score) for chunk, score in scores.items()]
        for start in range(0, len(pending), _BLOCK):
            await self._redis.zadd(_REBUILT, dict(pending[start : start + _BLOCK]))
        if pending:
            await self._redis.rename(_REBUILT, KEY)
        else:
            await self._redis.delete(KEY)
