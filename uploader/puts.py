"""Many puts at once, and never more than a limit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, limit: int) -> None:
    """Does the work for every item, `limit` at once. The first error stops the rest and is raised as it is."""
    queue = iter(items)
    workers = [asyncio.create_task(_drain(queue, work)) for _ in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _drain(queue: Iterator[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    for item in queue:
        await work(item)
