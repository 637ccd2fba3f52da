"""Threads for stores whose library waits: a bounded pool of one store's own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Enough to hide a store's latency; each thread may hold one part of a body (`parts.PART_BYTES`).
THREADS = 16


class Threads:
    """Runs calls in at most `THREADS` threads, which are started when needed."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result. Cancelling gives up the wait; a call that has begun goes on to its own time limit."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Drops what has not begun and lets the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
