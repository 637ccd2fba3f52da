"""Whether a worker still does what it is there for: its main loop turns and asks the broker for messages.

A worker can hold its lease, report its cell and never take a message again: its loop hangs, or its subscription got
lost in a reconnect. `celery inspect ping` finds neither (remote control is off, and it would ask the very loop that
hangs), so the loop notes its turns here and `/livez` reads them from another thread.

While the broker answers nobody, silence is no fault of the worker's: a restart would mend nothing and cost its chunks.
"""

import time
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from shared.broker import asks_for_messages, broker_answers
from shared.failpoints import reach

#: Seconds between two notes of the loop.
NOTED_EVERY = 1.0


class Pulse:
    """When the loop last turned and last asked. Written by the loop, read by the health server's threads.

    `broker_answers` may block for some seconds. `clock` counts seconds.
    """

    def __init__(
        self,
        *,
        longest_silence_seconds: float,
        broker_answers: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest = longest_silence_seconds
        self._broker_answers = broker_answers
        self._clock = clock
        self._turned_at = self._asked_at = self._excused_until = clock()

    def note(self, *, asked: bool) -> None:
        """The loop has turned; `asked`: it asked for messages since the last turn, or has bells in hand."""
        self._turned_at = self._clock()
        if asked:
            self._asked_at = self._turned_at

    def trouble(self) -> str | None:
        """What is wrong, in one sentence; None while the worker is alive."""
        if self._found() is None:
            return None
        if not self._broker_answers():
            self._excused_until = self._clock()
        return self._found()

    def _found(self) -> str | None:
        now = self._clock()
        if now - max(self._turned_at, self._excused_until) > self._longest:
            return f"the main loop has not turned for {now - self._turned_at:.0f} s"
        if now - max(self._asked_at, self._excused_until) > self._longest:
            return f"the broker has not been asked for messages for {now - self._asked_at:.0f} s"
        return None


def watch(app: Celery, *, longest_silence_seconds: float) -> Pulse:
    """The pulse of this app's worker, fed by its main loop from the moment it consumes."""
    pulse = Pulse(longest_silence_seconds=longest_silence_seconds, broker_answers=lambda: broker_answers(app))

    class NotePulse(bootsteps.StartStopStep):  # type: ignore[misc]
        """Celery makes it anew with each connection, and its timer with it."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            self._timer = consumer.timer.call_repeatedly(NOTED_EVERY, lambda: _note(pulse, consumer))

        def stop(self, consumer: Any) -> None:
            self._timer.cancel()

    app.steps["consumer"].add(NotePulse)
    return pulse


def _note(pulse: Pulse, consumer: Any) -> None:
    is_at_work = bool(state.reserved_requests)
    pulse.note(asked=is_at_work or asks_for_messages(consumer.task_consumer))
    reach("worker.turned")
