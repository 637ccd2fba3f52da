"""Celery Beat without a broker: says which entries of the calendar are due, and when the others will be.

Only Beat's `Scheduler` is used, its heap and its schedules. It owns no thread, no file and no connection: entries and
clock come in, due ones come out, and the caller makes their runs rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler

from shared.calendar import read_schedule
from shared.db.calendar import Entry

#: When an entry was last due that never was: it is due now.
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at the entries shows."""

    #: Entries that are due.
    due: Sequence[Entry]
    #: When each is due next, after this look.
    following: Mapping[str, datetime]


class Beat(Scheduler):  # type: ignore[misc]
    """Looks at the calendar by a clock that stands still while it looks."""

    def __init__(self, app: Celery, entries: Sequence[Entry], now: datetime) -> None:
        self._now = now
        self._known = {entry.name: entry for entry in entries}
        self._due: list[Entry] = []
        super().__init__(app, schedule=dict(self._readable(app)))

    def look(self) -> Look:
        # Each tick takes one entry; a second one for each, as an entry may be put back once before it is due.
        for _ in range(2 * len(self.schedule) + 1):
            if self.tick():
                break
        following = {name: self._now + _left(entry) for name, entry in self.schedule.items()}
        return Look(due=self._due, following=following)

    def setup_schedule(self) -> None:
        """The entries are given; Beat would add those of Celery's configuration."""

    def adjust(self, n: Any, drift: float = 0.0) -> Any:
        """Beat wakes 10 ms early, which a clock that stands still would never make up for."""
        return super().adjust(n, drift=drift)

    @property
    def producer(self) -> None:
        """Beat would connect to the broker, and wait for it."""
        return

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **_: Any) -> None:
        """Notes that the entry is due; Beat would send a message."""
        self._due.append(self._known[entry.name])

    def _readable(self, app: Celery) -> Iterator[tuple[str, ScheduleEntry]]:
        for entry in self._known.values():
            try:
                schedule = read_schedule(entry.schedule, now=lambda: self._now)
            except ValueError as error:  # one entry's trouble must not stop the others
                log.warning("schedule_unreadable", entry=entry.name, error=str(error))
                continue
            last = entry.last_due_at or _NEVER
            yield entry.name, ScheduleEntry(entry.name, schedule=schedule, last_run_at=last, app=app)


def _left(entry: ScheduleEntry) -> timedelta:
    left: timedelta = entry.schedule.remaining_estimate(entry.last_run_at)
    return max(left, timedelta(0))
