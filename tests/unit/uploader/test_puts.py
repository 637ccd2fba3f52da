"""Many puts at once, never more than a limit, and nothing left running."""

import asyncio

import pytest

from shared.errors import StoreUnavailable
from uploader.puts import for_each


async def test_every_item_is_done_and_never_more_than_the_limit_at_once() -> None:
    running, most, done = 0, 0, set[int]()

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(item % 3 + 1):
            await asyncio.sleep(0)
        running -= 1
        done.add(item)

    await for_each(range(50), work, limit=4)

    assert done == set(range(50))
    assert most == 4


async def test_the_first_error_comes_out_as_it_is_and_stops_the_rest() -> None:
    started: list[int] = []
    stopped: list[int] = []

    async def work(item: int) -> None:
        started.append(item)
        if item == 2:
            raise StoreUnavailable("away")
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(item)

    with pytest.raises(StoreUnavailable):
        await for_each(range(50), work, limit=3)

    assert started == [0, 1, 2]
    assert sorted(stopped) == [0, 1]


async def test_cancelling_leaves_no_put_behind() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work(_: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = asyncio.create_task(for_each([1], work, limit=2))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_nothing_to_do_is_done_at_once() -> None:
    async def work(_: int) -> None:
        raise AssertionError("there is no item")

    await for_each([], work, limit=3)
