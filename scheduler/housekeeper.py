"""The errands of the house: what is forgotten every so often, after as long as the settings say."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import structlog

from scheduler.calendar import Errand
from scheduler.housekeeping import tidy_spool
from scheduler.renewer import Renewer
from scheduler.settings import SchedulerSettings
from scheduler.strays import Strays
from shared import calendar
from shared.db import calendar as runs
from shared.db import deliveries, recurring, retention
from shared.db.calendar import Run
from shared.db.leader import Term
from shared.db.session import transaction
from shared.resources import Resources

#: Blocks forgotten in one run; the next goes on.
_MOST_BLOCKS = 100

log = structlog.get_logger(__name__)


class Housekeeper:
    """Each errand may be repeated, and may end anywhere."""

    def __init__(self, settings: SchedulerSettings, resources: Resources) -> None:
        self._settings = settings
        self._resources = resources
        #: Lists nobody named when the spool was last tidied.
        self._unnamed: frozenset[str] = frozenset()

    def errands(self) -> Mapping[str, Errand]:
        return {
            calendar.Errand.TIDY_SPOOL: _alone(self.tidy_spool),
            calendar.Errand.FORGET_KEYS: _alone(self.forget_keys),
            calendar.Errand.FORGET_HISTORY: _alone(self.forget_history),
            calendar.Errand.FORGET_FINGERPRINTS: _alone(self.forget_fingerprints),
            calendar.Errand.SWEEP_STRAYS: Strays(self._settings, self._resources).sweep,
            recurring.ERRAND: Renewer(self._settings, self._resources).renew,
        }

    async def tidy_spool(self) -> None:
        keep = timedelta(days=self._settings.keep_lists_days)
        done = await tidy_spool(self._resources, keep=keep, suspects=self._unnamed)
        self._unnamed = done.suspects

    async def forget_keys(self) -> None:
        async with transaction(self._resources.engine) as connection:
            gone = await retention.forget_keys(connection, keep=timedelta(days=self._settings.keep_keys_days))
        _say("keys", gone)

    async def forget_history(self) -> None:
        keep, gone, place = timedelta(days=self._settings.keep_history_days), 0, 0
        for _ in range(_MOST_BLOCKS):
            async with transaction(self._resources.engine) as connection:
                forgotten, following = await retention.forget_moves(connection, keep=keep, after=place)
            gone += forgotten
            if following is None:
                break
            place = following
        async with transaction(self._resources.engine) as connection:
            await runs.forget_runs(connection, keep=keep)
            await deliveries.forget(connection, keep=keep)
        _say("moves", gone)

    async def forget_fingerprints(self) -> None:
        keep, gone = timedelta(days=self._settings.keep_fingerprints_days), 0
        for _ in range(_MOST_BLOCKS):
            async with transaction(self._resources.engine) as connection:
                forgotten = await retention.forget_fingerprints(connection, keep=keep)
            gone += forgotten
            if not forgotten:
                break
        _say("fingerprints", gone)


def _alone(errand: Callable[[], Awaitable[None]]) -> Errand:
    """An errand that asks neither whose turn it is nor for which run."""

    async def run(_term: Term, _run: Run) -> None:
        await errand()

    return run


def _say(what: str, gone: int) -> None:
    if gone:
        log.info("forgotten", what=what, count=gone)
