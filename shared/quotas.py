"""What a tenant may ask for: how many jobs at once, how many rows and bytes a day. Values in, values out.

An operator sets limits for each tier, and others for one tenant where that is agreed. A quota without a limit is not
counted against anybody. A day begins at midnight UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum


class Quota(StrEnum):
    """What is limited; the names stand in the tenant's row and in settings."""

    OPEN_JOBS = "open_jobs"  #: jobs that have not ended
    ROWS_A_DAY = "rows_a_day"  #: rows of the lists of jobs submitted today
    BYTES_A_DAY = "bytes_a_day"  #: bytes stored by jobs submitted today


#: None: no limit. A quota that is not named has the limit of whatever comes next: tenant, tier, none.
Limits = Mapping[Quota, int | None]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a tenant has used, by the database's clock."""

    open_jobs: int
    rows_a_day: int
    bytes_a_day: int
    at: datetime

    def of(self, quota: Quota) -> int:
        used: int = getattr(self, quota.value)
        return used


def read_limits(stored: Mapping[str, object]) -> dict[Quota, int | None]:
    """Limits as they are written down. Raises ValueError with what may stand there."""
    limits: dict[Quota, int | None] = {}
    for name, limit in stored.items():
        if name not in set(Quota):
            raise ValueError(f"{name!r} is no quota; those are {', '.join(Quota)}")
        if limit is not None and (type(limit) is not int or not 0 <= limit < 2**63):
            raise ValueError(f"the limit of {name} must be a whole number from 0 on, or null for none")
        limits[Quota(name)] = limit
    return limits


def used_up(limits: Limits, usage: Usage) -> Quota | None:
    """The first quota that leaves no room for another job; None when there is room."""
    for quota in Quota:
        limit = limits.get(quota)
        if limit is not None and usage.of(quota) >= limit:
            return quota
    return None


def next_day(at: datetime) -> datetime:
    """When the quotas of a day begin anew."""
    today = datetime.combine(at.astimezone(UTC).date(), time(), UTC)
    return today + timedelta(days=1)
