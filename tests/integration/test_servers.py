"""The servers that all other suites rest on are real, empty, and those that were asked for."""

import contextlib
import os

import asyncpg
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests import servers


async def test_a_database_is_at_the_newest_schema_and_empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        jobs = await connection.fetchval("SELECT count(*) FROM jobs")

    assert jobs == 0


async def test_each_test_has_a_database_of_its_own(database_url: str, postgres_url: str) -> None:
    assert database_url != postgres_url


async def test_pixcrawler_needs_no_superuser(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        is_superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")

    assert is_superuser is False


@pytest.mark.parametrize("turn", [1, 2])
def test_redis_is_empty_at_each_start(redis_url: str, turn: int) -> None:
    with contextlib.closing(Redis.from_url(redis_url)) as client:
        assert client.dbsize() == 0

        client.set("left-over", turn)


def test_a_redis_of_ones_own_can_be_killed_and_started_again(own_redis: servers.Valkey) -> None:
    with contextlib.closing(Redis.from_url(own_redis.url)) as client:
        client.set("key", "value")

        own_redis.kill()

        with pytest.raises(RedisConnectionError):
            client.ping()

        own_redis.start()

        assert client.get("key") is None


def test_containers_are_used_where_they_were_asked_for() -> None:
    asked = os.environ.get("PIXCRAWLER_TEST_SERVERS", "auto")

    assert asked in ("auto", servers.provider())
