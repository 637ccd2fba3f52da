"""One event loop in a thread of its own, for a program whose main thread belongs to somebody else.

A Celery child's main thread waits for the loop, so a time limit or a shutdown, which Celery raises there,
hits only the wait; the coroutine is cancelled and cleans up. (Raised in a loop of the main thread it lands in
a random coroutine, or nowhere.) Start it after the fork.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from shared.stacks import watch_loop

T = TypeVar("T")


class LoopThread:
    """A running event loop."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        watch_loop(self.loop)
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T], *, grace_seconds: float) -> T:
        """Runs a coroutine and waits. An exception in this thread cancels it and gives it that long to clean up."""
        one = _Run(work)
        try:
            self.submit(one.start())
            one.ended.wait()
        except BaseException:  # it may come at any point, also before the work was started
            self.loop.call_soon_threadsafe(one.withdraw)
            one.ended.wait(grace_seconds)
            raise
        return one.result()

    def close(self) -> None:
        """Stops the loop. What still runs is cancelled."""
        if self.loop.is_closed():
            return
        try:
            self.submit(_cancel_the_rest()).result(5)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(5)
            self.loop.close()


class _Run(Generic[T]):
    """A coroutine somebody in another thread waits for. `start` and `withdraw` run in the loop."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.ended = threading.Event()
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._is_withdrawn = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._work)
        self._task.add_done_callback(lambda _: self.ended.set())
        if self._is_withdrawn:
            self._task.cancel()

    def withdraw(self) -> None:
        self._is_withdrawn = True
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """What the work returned or raised; only once it has ended."""
        assert self._task is not None, "it has ended, so it was started"
        return self._task.result()


async def _cancel_the_rest() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
