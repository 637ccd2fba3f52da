"""A loop in a thread of its own: results pass, and what hits the waiting thread lets the coroutine clean up."""

import asyncio
import ctypes
import threading
from collections.abc import Iterator

import pytest

from shared.runtime import LoopThread


class Shutdown(BaseException):
    """As Celery's SystemExit comes: at any moment, in the thread that waits."""


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    running = LoopThread("test")
    yield running
    running.close()


def test_a_result_passes(thread: LoopThread) -> None:
    async def work() -> str:
        return threading.current_thread().name

    assert thread.run(work(), grace_seconds=1) == "test"


def test_an_error_passes(thread: LoopThread) -> None:
    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        thread.run(work(), grace_seconds=1)


def _interrupt(waiting: threading.Thread) -> None:
    """Raises Shutdown in another thread, as a signal does in the main one."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiting.ident or 0), ctypes.py_object(Shutdown))


class _Waiting(threading.Event):
    """An event whose wait can be interrupted by an exception from elsewhere, as the main thread's can by a signal."""

    def wait(self, timeout: float | None = None) -> bool:
        ends = 10.0 if timeout is None else timeout
        for _ in range(int(ends * 100)):
            if super().wait(0.01):
                return True
        return self.is_set()


def test_a_shutdown_of_the_waiting_thread_cancels_the_work_and_lets_it_clean_up(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.threading.Event", _Waiting)
    began, cleaned, seen = asyncio.Event(), [], []

    async def work() -> None:
        main_has_begun.set()
        try:
            await began.wait()  # for ever
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    main_has_begun = threading.Event()

    def wait() -> None:
        try:
            thread.run(work(), grace_seconds=5)
        except Shutdown as error:
            seen.append((error, list(cleaned)))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert main_has_begun.wait(5)
    _interrupt(waiting)
    waiting.join(10)

    ((error, cleaned_before),) = seen
    assert isinstance(error, Shutdown)
    assert cleaned_before == ["up"], "the exception passes on when the work has cleaned up"


def test_work_that_does_not_end_is_waited_for_no_longer_than_the_grace(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.threading.Event", _Waiting)
    has_begun, seen = threading.Event(), []

    async def stubborn() -> None:
        has_begun.set()
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    def wait() -> None:
        try:
            thread.run(stubborn(), grace_seconds=0.05)
        except Shutdown:
            seen.append("passed on")

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert has_begun.wait(5)
    _interrupt(waiting)
    waiting.join(10)

    assert seen == ["passed on"]


def test_closing_cancels_what_still_runs() -> None:
    thread, ended, has_begun = LoopThread("test"), threading.Event(), threading.Event()

    async def work() -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    thread.submit(work())
    assert has_begun.wait(5)
    thread.close()

    assert ended.is_set()
    thread.close()  # can be repeated
