"""Keeps the calendar: makes due runs rows, and carries them out, one at a time.

    entries ──▶ Beat: which are due? ──▶ a row for each due run ──▶ its errand ──▶ ended, well or with an error

Only the leader does it, beside the loop. A run that a leader did not end, its successor carries out again: errands
may be repeated. What an errand does only once, it does in the transaction that ends its run.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import structlog
from celery import Celery

from scheduler.beat import Beat
from shared.calendar import HOUSEKEEPING
from shared.db import calendar, leader
from shared.db.calendar import Entry, Run
from shared.db.leader import NotLeader, Term
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable, PixCrawlerError
from shared.failpoints import reach
from shared.resources import Resources

#: What a run has done.
Errand = Callable[[Term, Run], Awaitable[None]]

log = structlog.get_logger(__name__)


class Calendar:
    """Looks what is due."""

    def __init__(self, resources: Resources, app: Celery, errands: Mapping[str, Errand]) -> None:
        self._resources = resources
        self._app = app
        self._errands = errands
        self._provided: Term | None = None

    async def keep_calendar(self, term: Term) -> bool:
        """One look, and the runs that are open. False: nothing was due. Raises DatabaseUnavailable, NotLeader."""
        await self._provide(term)
        async with transaction(self._resources.engine) as connection:
            now, entries = await calendar.entries(connection)
            runs = await calendar.open_runs(connection)
        is_due = await self._plan(term, now, entries)
        for run in runs:
            await self._carry_out(term, run)
        return is_due or bool(runs)

    async def _provide(self, term: Term) -> None:
        if self._provided == term:
            return
        async with leader.leading(self._resources.engine, term) as connection:
            await calendar.provide(connection, {each.errand.value: each.schedule for each in HOUSEKEEPING})
        self._provided = term

    async def _plan(self, term: Term, now: datetime, entries: Sequence[Entry]) -> bool:
        """Makes a run of each entry that is due; whether any was."""
        seen = Beat(self._app, entries, now).look()
        due = {entry.name for entry in seen.due}
        unsaid = [entry for entry in entries if entry.next_due_at != seen.following.get(entry.name, entry.next_due_at)]
        if unsaid:
            async with leader.leading(self._resources.engine, term) as connection:
                for entry in unsaid:
                    following = seen.following[entry.name]
                    if entry.name in due:
                        await calendar.claim(connection, entry, due_at=now, next_due_at=following)
                    else:
                        await calendar.note_next(connection, entry, following)
        return bool(due)

    async def _carry_out(self, term: Term, run: Run) -> None:
        async with leader.leading(self._resources.engine, term) as connection:
            if not await calendar.begin(connection, run):
                return
        reach("calendar.begun")
        error = await self._attempt(term, run)
        async with leader.leading(self._resources.engine, term) as connection:
            await calendar.finish(connection, run, error=error)
        log.info("calendar_run_ended", entry=run.entry, error=error)

    async def _attempt(self, term: Term, run: Run) -> str | None:
        """What went wrong; None when nothing did. Raises DatabaseUnavailable and NotLeader: then it stays open."""
        errand = self._errands.get(run.arguments.get("errand", run.entry))
        if errand is None:
            return "this scheduler does not know how; is it of an older version?"
        try:
            await errand(term, run)
        except (DatabaseUnavailable, NotLeader):
            raise
        except (PixCrawlerError, OSError) as error:
            log.warning("calendar_run_failed", entry=run.entry, error=str(error))
            return str(error)
        except Exception as error:  # one entry's trouble, a bug too, must not stop admission
            log.exception("calendar_run_broken", entry=run.entry)
            return f"a bug: {error!r}"
        return None
