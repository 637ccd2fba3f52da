"""Manners shared by all workers through a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from downloader.hosts import HostLeftAlone, Hosts
from downloader.leases import Breaker, Limit, RedisLeases, Want
from shared.cache import open_redis
from tests.servers import Valkey

HOST = "images.example.com"


class Workers:
    """Workers that share one Redis."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack

    async def start(self, *, connections: int = 2, spacing: float = 0.0, failures: int = 10) -> Hosts:
        redis = open_redis(SecretStr(self._url))
        self._stack.push_async_callback(redis.aclose)
        limit = Limit(connections=connections, spacing_seconds=spacing)
        hosts = Hosts(redis, limit_of=lambda _: limit, default=limit, breaker=Breaker(failures=failures, seconds=30))
        return await self._stack.enter_async_context(hosts)


@pytest.fixture
async def workers(redis_url: str) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers(redis_url, stack)


class Crowd:
    """Visitors of one host who stay until they are sent away."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = asyncio.Event()
        self.door = asyncio.Event()
        self.starts: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    def visit(self, hosts: Hosts, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._visit(hosts)) for _ in range(times)]

    async def _visit(self, hosts: Hosts) -> None:
        async with hosts.permit(HOST):
            self.starts.append(asyncio.get_running_loop().time())
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered.set()
            await self.door.wait()
            self.inside -= 1

    async def leave(self) -> None:
        self.door.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks), 10)


async def test_a_host_sees_no_more_connections_than_allowed_from_one_worker(workers: Workers) -> None:
    hosts = await workers.start(connections=3)
    crowd = Crowd()
    crowd.visit(hosts, 20)

    await asyncio.wait_for(crowd.entered.wait(), 5)
    await asyncio.sleep(0)
    assert crowd.inside == 3

    await crowd.leave()
    assert crowd.most == 3
    assert len(crowd.starts) == 20


class TestLeases:
    """What two workers are given, without their gates."""

    @pytest.fixture
    async def pair(self, redis_url: str) -> AsyncIterator[tuple[RedisLeases, RedisLeases]]:
        redis = open_redis(SecretStr(redis_url))
        yield RedisLeases(redis, "one", Breaker()), RedisLeases(redis, "two", Breaker())
        await redis.aclose()

    async def ask(self, leases: RedisLeases, *, starts: int = 20, in_use: int = 0, allowed: int = 8) -> int:
        limit = Limit(connections=allowed, spacing_seconds=0)
        (lease,) = await leases.lease([Want(host=HOST, starts=starts, connections=starts, in_use=in_use, limit=limit)])
        return lease.connections

    async def test_together_they_have_no_more_than_the_host_bears(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        one, two = pair

        assert await self.ask(one) == 8
        assert await self.ask(two) == 0

    async def test_each_has_its_share_as_soon_as_the_first_renews(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        one, two = pair
        await self.ask(one)
        await self.ask(two)

        assert await self.ask(one, in_use=1) == 4
        assert await self.ask(two) == 4

    async def test_who_needs_nothing_more_makes_room(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        one, two = pair
        await self.ask(one)

        await self.ask(one, starts=0)

        assert await self.ask(two) == 8

    async def test_what_is_open_stays_counted(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        one, two = pair
        await self.ask(one, allowed=2)

        assert await self.ask(one, starts=0, in_use=2, allowed=2) == 2
        assert await self.ask(two, allowed=2) == 0

    async def test_a_single_connection_goes_from_one_to_the_other(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        one, two = pair

        assert await self.ask(one, allowed=1) == 1
        assert await self.ask(two, allowed=1) == 0
        assert await self.ask(one, allowed=1) == 0
        assert await self.ask(two, allowed=1) == 1

    async def test_one_round_trip_answers_for_many_hosts(self, pair: tuple[RedisLeases, RedisLeases]) -> None:
        wants = [
            Want(
                host=f"{n}.example.com",
                starts=n,
                connections=n,
                in_use=0,
                limit=Limit(connections=n + 1, spacing_seconds=0.1),
            )
            for n in range(500)
        ]

        leases = await pair[0].lease(wants)

        assert [lease.connections for lease in leases] == list(range(500))
        assert [lease.starts for lease in leases] == [min(n, 50) for n in range(500)]  # five seconds at ten a second


async def test_starts_are_spaced_over_all_workers(workers: Workers) -> None:
    first, second = await workers.start(spacing=0.05, connections=50), await workers.start(spacing=0.05, connections=50)
    crowd = Crowd()
    crowd.door.set()
    crowd.visit(first, 10)
    crowd.visit(second, 10)

    await crowd.leave()

    # Twenty starts have nineteen gaps of 50 ms; a little less because clocks are read at different places.
    assert max(crowd.starts) - min(crowd.starts) >= 19 * 0.05 - 0.05


async def test_a_pause_asked_of_one_worker_is_kept_by_the_other(workers: Workers) -> None:
    first, second = await workers.start(), await workers.start()
    async with first.permit(HOST) as permit:
        permit.retry_after(1.0)
    left = asyncio.get_running_loop().time()
    await first.tell()

    async with second.permit(HOST):
        entered = asyncio.get_running_loop().time()

    assert entered - left >= 0.9


async def test_a_host_that_fails_in_a_row_is_left_alone_by_all(workers: Workers) -> None:
    first, second = await workers.start(failures=3), await workers.start(failures=3)
    for hosts in (first, second, first):
        async with hosts.permit(HOST) as permit:
            permit.failed()
        await hosts.tell()

    for hosts in (first, second):
        with pytest.raises(HostLeftAlone):
            async with hosts.permit(HOST):
                pass


async def test_a_success_between_failures_keeps_the_breaker_closed(workers: Workers) -> None:
    hosts = await workers.start(failures=3)
    for is_good in (False, False, True, False, False):
        async with hosts.permit(HOST) as permit:
            if is_good:
                permit.succeeded()
            else:
                permit.failed()
        await hosts.tell()

    async with hosts.permit(HOST):
        pass


async def test_another_host_is_not_concerned(workers: Workers) -> None:
    hosts = await workers.start(failures=1)
    async with hosts.permit(HOST) as permit:
        permit.failed()
    await hosts.tell()

    async with hosts.permit("other.example.com"):
        pass


async def test_who_gives_up_in_line_takes_no_place(workers: Workers) -> None:
    hosts = await workers.start(connections=1)
    crowd = Crowd()
    crowd.visit(hosts, 3)
    await asyncio.wait_for(crowd.entered.wait(), 5)

    crowd.tasks.pop().cancel()
    await crowd.leave()

    assert len(crowd.starts) == 2


async def test_with_redis_away_a_host_sees_one_connection(own_redis: Valkey) -> None:
    async with AsyncExitStack() as stack:
        workers = Workers(own_redis.url, stack)
        hosts = await workers.start(connections=8, spacing=0.01)
        await asyncio.to_thread(own_redis.stop)
        crowd = Crowd()
        crowd.visit(hosts, 4)

        await asyncio.wait_for(crowd.entered.wait(), 10)
        await crowd.leave()

    assert crowd.most == 1
    assert crowd.starts[-1] - crowd.starts[0] >= 3 * 8 * 0.01 * 0.8


async def test_an_idle_host_is_forgotten_by_redis(workers: Workers, redis_url: str) -> None:
    hosts = await workers.start()
    async with hosts.permit(HOST):
        pass

    redis = open_redis(SecretStr(redis_url))
    lifetimes = [await redis.pttl(key) async for key in redis.scan_iter("pixcrawler:host:*")]
    await redis.aclose()

    assert lifetimes
    assert all(0 < lifetime <= 60_000 for lifetime in lifetimes)


async def test_what_a_worker_gives_back_another_may_use_at_once(workers: Workers) -> None:
    first, second = await workers.start(connections=2), await workers.start(connections=2)
    crowd, others = Crowd(), Crowd()
    crowd.visit(first, 2)
    await asyncio.wait_for(crowd.entered.wait(), 5)
    await crowd.leave()

    await first.release()
    others.visit(second)

    # Well within the five seconds that the first lease would have lasted.
    await asyncio.wait_for(others.entered.wait(), 2)
    await others.leave()
