"""Mends: rings what is unrung or unanswered, takes chunks from silent workers, ends what was cancelled."""

import time
from datetime import timedelta

import structlog
from celery import Celery

from scheduler.leadership import Leadership
from scheduler.settings import SchedulerSettings
from shared import metrics
from shared.closing import close_all
from shared.db import bells, cells, chunks, failed, leader, sweeps
from shared.db.leader import Term
from shared.db.session import transaction
from shared.failpoints import reach
from shared.messages import Why
from shared.pipeline import PIPELINE
from shared.resources import Resources
from shared.ringing import ring_all

#: A cell nobody reports from for this long is dead.
_CELL_DEAD_AFTER = timedelta(minutes=5)
#: Closed in one look.
_MOST_CLOSED = 50

log = structlog.get_logger(__name__)


class Caretaker:
    """Looks after chunks in flight."""

    def __init__(self, settings: SchedulerSettings, resources: Resources, app: Celery, leadership: Leadership) -> None:
        self._settings = settings
        self._resources = resources
        self._app = app
        self._leadership = leadership
        self._hold = timedelta(seconds=settings.hold_seconds)
        self._ring_again = timedelta(seconds=settings.ring_again_seconds)

    async def ring(self, term: Term) -> None:
        """Rings bells never rung, and those nobody answered."""
        async with leader.leading(self._resources.engine, term) as connection:
            due = await bells.take(connection, hold=self._hold, why=Why.DISPATCHED)
            due += await bells.take_unanswered(connection, again=self._ring_again)
        if due:
            reach("ring.taken")
        await ring_all(self._app, self._resources.engine, due)

    async def expire(self, term: Term) -> None:
        """Takes chunks from workers that fell silent; not before everyone had a chance to be heard again."""
        if time.monotonic() < self._leadership.since + self._settings.grace_seconds:
            return
        for stage in PIPELINE:
            async with leader.leading(self._resources.engine, term) as connection:
                expired = await sweeps.expire_leases(connection, stage)
            if expired.given_back or expired.given_up:
                metrics.leases_expired.labels(stage=stage.name).inc(expired.given_back + expired.given_up)
                log.warning("leases_expired", stage=stage.name, back=expired.given_back, given_up=expired.given_up)

    async def grant_redrives(self, term: Term) -> None:
        """Sends failed chunks that an administrator wished redriven back to the line."""
        async with leader.leading(self._resources.engine, term) as connection:
            redriven = await failed.grant_redrives(connection)
        if redriven:
            log.info("chunks_redriven", count=redriven)

    async def end_cancelled(self, term: Term) -> None:
        """Ends chunks of cancelled jobs that no worker has in hand."""
        async with leader.leading(self._resources.engine, term) as connection:
            await sweeps.cancel_chunks(connection)

    async def close_left(self) -> bool:
        """Closes ended chunks that no cell's janitor will. False: there was none."""
        async with transaction(self._resources.engine) as connection:
            left = await chunks.ended_nowhere(connection, dead_after=_CELL_DEAD_AFTER, limit=_MOST_CLOSED)
        await close_all(self._resources, left, actor="scheduler")
        metrics.mended.labels(what="left_open").inc(len(left))
        return bool(left)

    async def audit(self, term: Term) -> None:
        """Looks for what should never be, and for cells and workers that are gone."""
        async with leader.leading(self._resources.engine, term) as connection:
            await cells.forget_silent(connection)
            left = await sweeps.leave_dead_cells(connection, silent_for=_CELL_DEAD_AFTER)
            mismatches = await sweeps.slot_mismatches(connection)
        metrics.slot_mismatches.set(mismatches)
        metrics.mended.labels(what="dead_cell").inc(left)
        if left:
            log.warning("dead_cell_left", chunks=left)
        if mismatches:
            log.error("slots_do_not_match", count=mismatches)
