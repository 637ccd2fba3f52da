"""Servers as clouds rent them out: a Redis with the rights of a tenant, a PostgreSQL behind a transaction pooler."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.brokers.managed_redis import ManagedRedis
from tests.brokers.pgbouncer import PgBouncer
from tests.faults.world import World, world

pytestmark = [pytest.mark.brokers, pytest.mark.timeout(400)]


@pytest.fixture
async def rented(tmp_path: Path) -> AsyncIterator[tuple[World, ManagedRedis]]:
    with ManagedRedis() as redis:
        async with world(tmp_path, {"PIXCRAWLER_REDIS_URL": redis.url}) as ours:
            ours.redis = redis
            ours.mend()
            yield ours, redis


async def test_a_job_is_done_with_a_redis_that_only_a_tenant_has(rented: tuple[World, ManagedRedis]) -> None:
    ours, redis = rented

    with redis.watched():
        job = await ours.submit()
        await ours.has_kept_its_promises(job)

    assert ours.dead() == []
    assert {"BRPOP", "LPUSH", "ZADD", "HSET"} <= redis.asked
    assert redis.newer == set()


def test_the_rented_redis_refuses_what_it_must() -> None:
    with ManagedRedis() as redis, Redis.from_url(redis.url) as client:
        for command in ("CONFIG GET maxmemory", "ACL WHOAMI", "GETDEL key", "LMPOP 1 list LEFT"):
            with pytest.raises(ResponseError, match="unknown command"):
                client.execute_command(*command.split())


@pytest.fixture
async def pooled(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as ours:
        with PgBouncer(ours.system.database_url) as pooler:
            ours.system.extra |= {
                "PIXCRAWLER_DATABASE_URL": pooler.url,
                "PIXCRAWLER_DATABASE_DIRECT_URL": ours.system.database_url,
            }
            ours.mend()
            yield ours
            ours.close()


async def test_a_job_is_done_behind_a_transaction_pooler(pooled: World) -> None:
    job = await pooled.submit()

    await pooled.has_kept_its_promises(job)

    assert pooled.dead() == []


async def test_a_worker_killed_behind_a_transaction_pooler_loses_nothing(pooled: World) -> None:
    pooled.arm("validator", "validate.claimed:kill")
    job = await pooled.submit()

    await pooled.is_reached("validate.claimed")
    pooled.mend()

    await pooled.has_kept_its_promises(job)
