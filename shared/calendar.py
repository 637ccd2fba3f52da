"""The calendar's entries: what is done periodically, and how its schedule is kept in PostgreSQL.

A schedule is kept as `{"every_seconds": 3600}` or `{"cron": "0 3 * * *"}`, the latter in UTC. Celery reads both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from celery.schedules import BaseSchedule, ParseException, crontab
from celery.schedules import schedule as interval

_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


class Errand(StrEnum):
    """What an entry has done when it is due."""

    TIDY_SPOOL = "tidy_spool"  #: lists, plans and uploads that no job has needed for long
    FORGET_KEYS = "forget_keys"  #: API keys that expired or were revoked long ago
    #: moves of chunks of jobs that ended long ago, old runs of the calendar, old deliveries of webhooks
    FORGET_HISTORY = "forget_history"
    FORGET_FINGERPRINTS = "forget_fingerprints"  #: of datasets to which nothing was added for long
    SWEEP_STRAYS = "sweep_strays"  #: objects of ended chunks that no index names


@dataclass(frozen=True, kw_only=True)
class Housekeeping:
    """An entry that every installation has."""

    errand: Errand
    every: timedelta

    @property
    def schedule(self) -> dict[str, Any]:
        return {"every_seconds": int(self.every.total_seconds())}


HOUSEKEEPING = (
    Housekeeping(errand=Errand.TIDY_SPOOL, every=timedelta(hours=1)),
    Housekeeping(errand=Errand.FORGET_KEYS, every=timedelta(days=1)),
    Housekeeping(errand=Errand.FORGET_HISTORY, every=timedelta(days=1)),
    Housekeeping(errand=Errand.FORGET_FINGERPRINTS, every=timedelta(days=1)),
    Housekeeping(errand=Errand.SWEEP_STRAYS, every=timedelta(hours=1)),
)


def read_schedule(kept: Mapping[str, Any], *, now: Callable[[], datetime]) -> BaseSchedule:
    """The schedule by that clock. Raises ValueError with a sentence for one that cannot be read."""
    if (seconds := kept.get("every_seconds")) is not None:
        return interval(timedelta(seconds=seconds), nowfun=now)
    fields = str(kept.get("cron", "")).split()
    if len(fields) != len(_FIELDS):
        raise ValueError("a schedule needs five fields: minute, hour, day of month, month, day of week")
    try:
        return crontab(**dict(zip(_FIELDS, fields, strict=True)), nowfun=now)
    except (ParseException, ValueError) as error:
        raise ValueError(f"a schedule is wrong: {error}") from error
