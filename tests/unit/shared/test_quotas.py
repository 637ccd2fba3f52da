"""Quotas: what may stand as a limit, and which one is used up."""

from datetime import UTC, datetime

import pytest

from shared.quotas import Quota, Usage, next_day, read_limits, used_up

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
USED = Usage(open_jobs=3, rows_a_day=1000, bytes_a_day=50, at=NOON)


def test_limits_are_read_as_they_are_written() -> None:
    assert read_limits({"open_jobs": 3, "rows_a_day": None}) == {Quota.OPEN_JOBS: 3, Quota.ROWS_A_DAY: None}


@pytest.mark.parametrize("wrong", [{"rows": 3}, {"open_jobs": -1}, {"open_jobs": True}, {"open_jobs": "3"}])
def test_what_is_no_limit_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read_limits(wrong)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({Quota.OPEN_JOBS: None}, None),
        ({Quota.OPEN_JOBS: 4, Quota.ROWS_A_DAY: 1001}, None),
        # what is used up leaves no room for another job
        ({Quota.OPEN_JOBS: 3}, Quota.OPEN_JOBS),
        ({Quota.OPEN_JOBS: 4, Quota.BYTES_A_DAY: 50}, Quota.BYTES_A_DAY),
        ({Quota.ROWS_A_DAY: 0}, Quota.ROWS_A_DAY),
    ],
)
def test_the_quota_that_is_used_up(limits: dict[Quota, int | None], expected: Quota | None) -> None:
    assert used_up(limits, USED) is expected


def test_a_day_ends_at_midnight_utc() -> None:
    assert next_day(NOON) == datetime(2026, 11, 22, tzinfo=UTC)
