"""The scheduler's one loop: look, decide, act, wait to be woken or for a second.

Only the leader acts. What takes long or waits for a client's destination runs beside the loop, so that it is never
in the way of admission: planning, a part at a time; closing chunks; purging some; clearing what dropped ones left;
finishing jobs; the calendar; deleting datasets; telling tenants what became of their jobs; dry runs of lists.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from celery import Celery

from scheduler.admitter import WAITING_FOR, Admitter
from scheduler.calendar import Calendar
from scheduler.caretaker import Caretaker
from scheduler.checker import Checker
from scheduler.finisher import Finisher
from scheduler.leadership import Leadership
from scheduler.notifier import Notifier
from scheduler.planner import Planner
from scheduler.purger import Purger
from scheduler.remover import Remover
from scheduler.sweeper import Sweeper
from scheduler.truth import read_truth, show_truth
from shared import metrics
from shared.db import leader, lifecycle
from shared.db.leader import NotLeader, Term
from shared.errors import PixCrawlerError, TransientError
from shared.resources import Resources
from shared.wakeup import Wakeup

#: A loop that did not turn for this long was stopped; leases are judged anew.
_STALLED = timedelta(seconds=5)
#: Seconds between the beginnings of two turns. Every chunk that ends wakes the loop; a turn serves all that ended.
_TURN_EVERY = 0.1
#: Planning and closing rest this long when there is nothing to do.
_REST = 0.5
#: Seconds between two readings of the figures that only the leader tells.
_TRUTH_EVERY = 5.0
#: Seconds between two looks at the calendar.
_CALENDAR_EVERY = 2.0
#: Seconds between two looks whether somebody wishes a list checked.
_CHECK_EVERY = 1.0

log = structlog.get_logger(__name__)


@dataclass
class _Chore:
    """Something done every so often."""

    every: timedelta
    do: Callable[[Term], Awaitable[None]]
    due_at: float = float("-inf")


class Loop:
    """Turns until told to stop."""

    def __init__(
        self,
        resources: Resources,
        leadership: Leadership,
        planner: Planner,
        admitter: Admitter,
        caretaker: Caretaker,
        calendar: Calendar,
        notifier: Notifier,
        checker: Checker,
        wakeup: Wakeup,
        app: Celery,
        *,
        tick: timedelta,
    ) -> None:
        self._resources = resources
        self._leadership = leadership
        self._planner = planner
        self._admitter = admitter
        self._caretaker = caretaker
        self._wakeup = wakeup
        self._app = app
        self._tick = tick
        self._turned_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._finisher = Finisher(resources)
        self._purger = Purger(resources)
        self._sweeper = Sweeper(resources)
        self._remover = Remover(resources)
        self._notifier = notifier
        self._chores = (
            _Chore(timedelta(0), self._admit),
            _Chore(timedelta(0), caretaker.ring),
            _Chore(timedelta(0), caretaker.end_cancelled),
            _Chore(timedelta(seconds=1), caretaker.grant_redrives),
            _Chore(timedelta(0), self._finisher.look),
            _Chore(timedelta(seconds=1), self._note_waiting),
            _Chore(timedelta(seconds=2), self._audit_waiting),
            _Chore(timedelta(seconds=2), caretaker.expire),
            _Chore(timedelta(seconds=60), caretaker.audit),
        )
        #: Done beside the loop, each with its rest.
        self._works = (
            (self._plan, _REST),
            (self._close, _REST),
            (self._purger.purge, _REST),
            (self._sweeper.sweep, _REST),
            (self._remover.remove, _REST),
            (notifier.notify, _REST),
            (self._tell_truth, _TRUTH_EVERY),
            (calendar.keep_calendar, _CALENDAR_EVERY),
            (checker.check, _CHECK_EVERY),
        )

    @property
    def works(self) -> list[str]:
        """The names of all that it does, as metrics and log lines have them."""
        works = (*(chore.do for chore in self._chores), *(work for work, _ in self._works))
        return [_name(work) for work in works]

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.event.set()

    def stall_check(self) -> str | None:
        """None while the loop turns."""
        silent = time.monotonic() - self._turned_at
        return None if silent < 30 else f"the loop has not turned for {silent:.0f} s"

    async def run(self) -> None:
        beside = [asyncio.create_task(self._beside(work, rest)) for work, rest in self._works]
        try:
            while not self._stopping.is_set():
                for ended in (task for task in beside if task.done()):
                    ended.result()  # a bug: better no scheduler than half a one
                self._notice_stall()
                await self._turn()
                await self._wakeup.wait(self._tick.total_seconds())
                await asyncio.sleep(max(0.0, self._turned_at + _TURN_EVERY - time.monotonic()))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await asyncio.gather(self._finisher.close(), self._notifier.close())
            await self._leadership.resign()

    async def _turn(self) -> None:
        for chore in self._chores:
            if time.monotonic() < chore.due_at or (term := await self._leadership.term()) is None:
                continue
            chore.due_at = time.monotonic() + chore.every.total_seconds()
            try:
                with metrics.chore_seconds.labels(chore=_name(chore.do)).time():
                    await chore.do(term)
            except NotLeader:
                self._leadership.doubt()
            except TransientError as error:
                _note_hindrance(chore.do, error)
                self._leadership.doubt()

    async def _beside(self, work: Callable[[Term], Awaitable[bool]], rest: float) -> None:
        """Does the work while we lead, and rests that many seconds when there is none."""
        while True:
            try:
                term = await self._leadership.term()
                found = term is not None and await work(term)
            except (PixCrawlerError, OSError) as error:
                _note_hindrance(work, error)
                found = False
            if not found:
                await asyncio.sleep(rest)

    async def _plan(self, term: Term) -> bool:
        planned = await self._planner.plan_part(term)
        if planned:
            self._wakeup.event.set()
        return planned

    async def _close(self, _term: Term) -> bool:
        return await self._caretaker.close_left()

    def _notice_stall(self) -> None:
        now = time.monotonic()
        if now - self._turned_at > _STALLED.total_seconds() + self._tick.total_seconds():
            log.warning("loop_stalled", seconds=round(now - self._turned_at, 1))
            self._leadership.since = now
        self._turned_at = now

    async def _admit(self, term: Term) -> None:
        await self._admitter.admit(term)

    async def _note_waiting(self, term: Term) -> None:
        why = self._admitter.why
        async with leader.leading(self._resources.engine, term) as connection:
            await lifecycle.note_waiting(connection, WAITING_FOR[why] if why else "")

    async def _audit_waiting(self, _term: Term) -> None:
        if await self._admitter.audit():
            self._wakeup.event.set()  # somebody may have waited for it

    async def _tell_truth(self, term: Term) -> bool:
        truth = await read_truth(self._resources, self._app)
        if await self._leadership.term() == term:  # read while we led, and nobody else tells it
            show_truth(truth, self._admitter.why)
            async with leader.leading(self._resources.engine, term) as connection:
                await leader.tell(connection, term, {"shut": self._admitter.why, "queued": truth.queued})
        return False


def _name(work: Callable[..., object]) -> str:
    return getattr(work, "__name__", "work").strip("_")


def _note_hindrance(work: Callable[..., object], error: Exception) -> None:
    metrics.chores_hindered.labels(chore=_name(work)).inc()
    log.warning("scheduler_hindered", chore=_name(work), error=str(error))
