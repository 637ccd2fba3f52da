"""A process that is asked with SIGUSR2 tells where its threads and tasks stand, and goes on."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from shared.runtime import LoopThread
from shared.stacks import stacks, tell_when_asked
from tests.system import until


@pytest.fixture
def hanging() -> Iterator[LoopThread]:
    """A loop in another thread, whose one task waits for what never comes."""
    thread, waits = LoopThread("hanging"), threading.Event()

    async def wait_for_what_never_comes() -> None:
        waits.set()
        await asyncio.Event().wait()

    thread.submit(wait_for_what_never_comes())
    assert waits.wait(10)
    yield thread
    thread.close()


async def test_a_task_that_waits_in_another_threads_loop_is_told(hanging: LoopThread) -> None:
    async def is_told() -> bool:
        return "wait_for_what_never_comes" in stacks()

    await until("the waiting task is told", is_told)

    assert "thread hanging" in stacks()
    assert "test_a_task_that_waits" in stacks()


def test_a_signal_is_answered_with_one_log_line() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    tell_when_asked()

    with capture_logs() as lines:
        os.kill(os.getpid(), signal.SIGUSR2)

    signal.signal(signal.SIGUSR2, before)
    (line,) = (line for line in lines if line["event"] == "stacks")
    assert "test_a_signal_is_answered" in line["stack"]


async def test_the_main_threads_own_loop_is_told() -> None:
    assert "test_the_main_threads_own_loop" in stacks()
