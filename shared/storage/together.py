"""Calls that are carried out together, because much of their work is the same for all.

    call ─┐
    call ─┼─▶ line ──▶ a thread takes what waits ──▶ each up to its pause, then each to its end ──▶ answers
    call ─┘

A file system makes many new files last by one commit, if they are written before the first of them is synced.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.storage.threads import Threads

Item = TypeVar("Item")
T = TypeVar("T")

#: What a step of the work gives: nothing at its pause, its result at its end.
Steps = Generator[None, None, T]


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, T]):
    item: Item
    answer: "asyncio.Future[T]"


class Together(Generic[Item, T]):
    """Hands what waits to `work`, up to `largest` items at once, in up to `lanes` threads at once.

    `work` gives each item's result or the exception it ended with. Belongs to the event loop that calls it.
    """

    def __init__(
        self, threads: Threads, work: Callable[[Sequence[Item]], Sequence[T | Exception]], *, largest: int, lanes: int
    ) -> None:
        self._threads = threads
        self._work = work
        self._largest = largest
        self._free_lanes = lanes
        self._line: deque[_Waiting[Item, T]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, item: Item) -> T:
        """The item's result. Cancelling gives up the wait; work that has begun goes on."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, T] = _Waiting(item, loop.create_future())
        if not self._line:
            loop.call_soon(self._go)  # not at once: others come in this moment
        self._line.append(waiting)
        return await waiting.answer

    def _go(self) -> None:
        while self._line and self._free_lanes:
            batch = [self._line.popleft() for _ in range(min(len(self._line), self._largest))]
            self._free_lanes -= 1
            task = asyncio.get_running_loop().create_task(self._carry_out(batch))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _carry_out(self, batch: Sequence[_Waiting[Item, T]]) -> None:
        try:
            wanted = [waiting for waiting in batch if not waiting.answer.done()]
            for waiting, result in zip(
                wanted, await self._threads.run(self._work, [waiting.item for waiting in wanted]), strict=True
            ):
                _settle(waiting.answer, result)
        except Exception as error:
            for waiting in batch:
                _settle(waiting.answer, error)
        finally:
            for waiting in batch:
                waiting.answer.cancel()  # no effect on those that have their answer
            self._free_lanes += 1
            self._go()


def in_step(works: Sequence[Steps[T]]) -> list[T | Exception]:
    """Takes each work to its pause, then each on to its end; the result of each, or what it raised."""
    results: dict[int, T | Exception] = {}
    while len(results) < len(works):
        for place, steps in enumerate(works):
            if place not in results:
                try:
                    next(steps)
                except StopIteration as end:
                    results[place] = end.value
                except Exception as error:
                    results[place] = error
    return [results[place] for place in range(len(works))]


def _settle(answer: "asyncio.Future[T]", result: T | Exception) -> None:
    if answer.done():  # cancelled meanwhile
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
