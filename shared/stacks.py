"""Where a process stands, told when asked with SIGUSR2: every thread, and every task of its event loops.

A service that hangs says so once more, `kill -USR2 <pid>`, and goes on as it was: one log line, `stacks`.
A child of a worker's pool is asked by its own number.
"""

import asyncio
import io
import signal
import sys
import threading
import traceback
import weakref
from types import FrameType

import structlog

#: Innermost frames shown of each thread and task.
_MOST_FRAMES = 12

_loops: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()

log = structlog.get_logger(__name__)


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Its tasks are told, too; it may run in any thread."""
    _loops.add(loop)


def tell_when_asked() -> None:
    """From now on SIGUSR2 is answered, by this process and by those it forks. Call in the main thread."""
    signal.signal(signal.SIGUSR2, _tell)


def stacks() -> str:
    """The innermost frames of each thread and of each task that waits."""
    told = [*_threads(), *_tasks()]
    return "\n".join(told)


def _tell(_signal: int, _frame: FrameType | None) -> None:
    log.warning("stacks", stack=stacks())


def _threads() -> list[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        f"thread {names.get(number, number)}\n" + "".join(traceback.format_stack(frame)[-_MOST_FRAMES:])
        for number, frame in sys._current_frames().items()
    ]


def _tasks() -> list[str]:
    loops = set(_loops) | _running()
    return [_task(task) for loop in loops for task in asyncio.all_tasks(loop)]


def _running() -> set[asyncio.AbstractEventLoop]:
    """The main thread's own loop, if it runs one."""
    try:
        return {asyncio.get_running_loop()}
    except RuntimeError:
        return set()


def _task(task: "asyncio.Task[object]") -> str:
    text = io.StringIO()
    task.print_stack(limit=_MOST_FRAMES, file=text)
    return f"task {task.get_name()}\n{text.getvalue()}"
