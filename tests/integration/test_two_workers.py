"""Manners over two workers that are processes of their own and share nothing but Redis."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.download_process import Worker, start_worker
from tests.origin import Origin, Request, Wire, picture

#: Loopback is a friend by default and may be asked without end; here it is a host like any other.
_STRANGER = {"allowed_host_connections": 4, "allowed_host_rate": 0.0, "breaker_failures": 5, "breaker_seconds": 30.0}


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(listens_on="0.0.0.0") as origin:
        yield origin


OpenWorker = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def open_worker(redis_url: str, tmp_path: Path) -> OpenWorker:
    names = itertools.count()

    def opened(**settings: object) -> AbstractAsyncContextManager[Worker]:
        folder = tmp_path / str(next(names))
        folder.mkdir()
        return start_worker(redis_url, folder, **_STRANGER | settings)

    return opened


def _urls(origin: Origin, path: str, count: int) -> list[str]:
    return [origin.url(f"{path}?n={number}") for number in range(count)]


async def test_a_host_sees_no_more_requests_at_once_than_allowed_from_both(
    open_worker: OpenWorker, origin: Origin
) -> None:
    async def slow(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.02)
        await wire.reply(picture(request.target))

    origin.handlers.update({"/one": slow, "/two": slow})

    async with open_worker() as one, open_worker() as two:
        answers = await asyncio.gather(one.run(_urls(origin, "/one", 80)), two.run(_urls(origin, "/two", 80)))

    assert [Counter(row["reason"] for row in rows) for rows in answers] == [{None: 80}, {None: 80}]
    assert origin.busiest == 4


async def test_a_host_sees_no_more_requests_a_second_than_allowed_from_both(
    open_worker: OpenWorker, origin: Origin
) -> None:
    asked: list[float] = []

    async def note(request: Request, wire: Wire) -> None:
        asked.append(time.monotonic())
        await wire.reply(picture(request.target))

    origin.handlers["/x"] = note

    async with open_worker(allowed_host_rate=20) as one, open_worker(allowed_host_rate=20) as two:
        await asyncio.gather(one.run(_urls(origin, "/x", 20)), two.run(_urls(origin, "/x", 20)))

    assert len(asked) == 40
    # 39 gaps of 50 ms; each worker by itself would need half of that, and forty in a second together.
    assert asked[-1] - asked[0] >= 39 * 0.05 - 0.3
    assert max(sum(start <= moment < start + 1 for moment in asked) for start in asked) < 30


async def test_a_breaker_opened_by_one_is_seen_by_the_other(open_worker: OpenWorker, origin: Origin) -> None:
    async with open_worker() as one, open_worker(chunk_deadline_seconds=1) as two:
        failed = await one.run(_urls(origin, "/status/500", 5))
        seen = origin.hits.total()
        left_alone = await two.run(_urls(origin, "/image/a", 20))

    assert {row["reason"] for row in failed} == {"http_server_error"}
    assert seen == 5
    assert {row["reason"] for row in left_alone} == {"deadline"}
    assert origin.hits.total() == seen


async def test_after_its_time_an_open_breaker_lets_the_other_try(open_worker: OpenWorker, origin: Origin) -> None:
    async with open_worker(breaker_seconds=1) as one, open_worker(breaker_seconds=1) as two:
        await one.run(_urls(origin, "/status/500", 5))
        opened = time.monotonic()
        (row,) = await two.run([origin.url("/image/a")])
        waited = time.monotonic() - opened

    assert row["reason"] is None
    assert waited >= 0.9


async def test_what_one_is_asked_to_wait_the_other_waits_too(open_worker: OpenWorker, origin: Origin) -> None:
    asked: dict[str, float] = {}

    async def note(request: Request, wire: Wire) -> None:
        asked[request.headers["host"].partition(":")[0]] = time.monotonic()
        await wire.reply(picture(request.target))

    origin.handlers["/x"] = note

    async with open_worker() as one, open_worker() as two:
        (refused,) = await one.run([origin.url("/flaky?fails=9&status=429&after=2")])
        told = time.monotonic()
        rows = await two.run([origin.url("/x"), origin.url("/x", host="127.0.0.2")])

    assert refused["reason"] == "http_rate_limited"
    assert [row["reason"] for row in rows] == [None, None]
    assert asked["127.0.0.1"] - told >= 1.8
    assert asked["127.0.0.2"] - told < 1.5  # another host is none the worse


async def test_what_a_killed_worker_held_is_free_again_after_its_lease(open_worker: OpenWorker, origin: Origin) -> None:
    async with open_worker() as one:
        lost = asyncio.ensure_future(one.run(_urls(origin, "/held", 4)))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
    lost.cancel()
    died = time.monotonic()

    async with open_worker() as two:
        rows = await two.run(_urls(origin, "/image/a", 8))

    assert {row["reason"] for row in rows} == {None}
    assert time.monotonic() - died < 10
