"""Waiting for several tasks at once, with plain errors instead of groups of them."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def together(*ways: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """The results of all, in order; the first error cancels the others and is raised."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _cancel(tasks)
    for task in done:
        task.result()
    return tuple(task.result() for task in tasks)


async def until_first(*ways: Coroutine[Any, Any, None]) -> None:
    """Returns or raises as the first one that ends; cancels the others."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(tasks)
    for task in done:
        task.result()


async def _cancel(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
