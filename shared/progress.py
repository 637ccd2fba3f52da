"""Live progress of chunks in flight, in Redis: seen at once, and not missed when it is lost.

Key `pixcrawler:progress:<job>`: a hash, chunk id -> JSON `[stage, done, passed, bytes]`; expires after a day.
PostgreSQL has the same figures in steps of a heartbeat.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

_KEPT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Live:
    """How far one chunk is in its present stage."""

    stage: str
    done: int  #: rows
    passed: int  #: rows
    size_bytes: int


def _key(job: UUID) -> str:
    return f"pixcrawler:progress:{job}"


async def write(redis: Redis, job: UUID, chunk: int, live: Live) -> None:
    """Shows a chunk's progress; trouble with Redis is not the chunk's trouble."""
    figures = json.dumps([live.stage, live.done, live.passed, live.size_bytes])
    try:
        pipe = redis.pipeline(transaction=False)
        pipe.hset(_key(job), str(chunk), figures)
        pipe.expire(_key(job), _KEPT)
        await pipe.execute()
    except (RedisError, OSError, TimeoutError):
        return


async def forget(redis: Redis, job: UUID, chunk: int) -> None:
    """Takes an ended chunk out."""
    try:
        await redis.hdel(_key(job), str(chunk))
    except (RedisError, OSError, TimeoutError):
        return


async def read(redis: Redis, job: UUID) -> dict[int, Live]:
    """The progress of a job's chunks in flight; empty when Redis is away."""
    try:
        shown = await redis.hgetall(_key(job))
    except (RedisError, OSError, TimeoutError):
        return {}
    live = {}
    for chunk, figures in shown.items():
        stage, done, passed, size_bytes = json.loads(figures)
        live[int(chunk)] = Live(stage=stage, done=done, passed=passed, size_bytes=size_bytes)
    return live
