"""What Beat finds due, by a clock that the test owns."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from scheduler.beat import Beat
from shared.calendar import read_schedule
from shared.db.calendar import Entry

#: A Saturday.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOURLY = {"every_seconds": 3600}
AT_THREE = {"cron": "0 3 * * *"}


def entry(schedule: dict[str, Any], last: datetime | None, name: str = "it") -> Entry:
    return Entry(name=name, schedule=schedule, last_due_at=last, next_due_at=None)


@pytest.mark.parametrize(
    ("schedule", "last", "is_due", "following"),
    [
        # one that never was is due at once, and an hour later again
        (HOURLY, None, True, NOW + timedelta(hours=1)),
        (HOURLY, NOW - timedelta(minutes=59), False, NOW + timedelta(minutes=1)),
        # to the second
        (HOURLY, NOW - timedelta(hours=1), True, NOW + timedelta(hours=1)),
        # a day without a scheduler is made up for once
        (HOURLY, NOW - timedelta(days=1), True, NOW + timedelta(hours=1)),
        (AT_THREE, NOW - timedelta(hours=9), False, NOW + timedelta(hours=15)),
        # nobody led at three
        (AT_THREE, NOW - timedelta(hours=10), True, NOW + timedelta(hours=15)),
        ({"cron": "30 12 * * sun"}, NOW - timedelta(hours=1), False, NOW + timedelta(days=1, minutes=30)),
    ],
)
def test_an_entry_is_due_by_its_schedule_and_when_it_last_was(
    schedule: dict[str, Any], last: datetime | None, is_due: bool, following: datetime
) -> None:
    asked = entry(schedule, last)

    seen = Beat(Celery(), [asked], NOW).look()

    assert list(seen.due) == ([asked] if is_due else [])
    assert seen.following == {"it": following}


def test_all_that_are_due_are_found_in_one_look() -> None:
    due = [entry(HOURLY, None, f"due-{number}") for number in range(20)]
    later = [entry(HOURLY, NOW - timedelta(seconds=3599, milliseconds=990), f"later-{number}") for number in range(20)]

    seen = Beat(Celery(), [*later, *due], NOW).look()

    assert {found.name for found in seen.due} == {each.name for each in due}


def test_an_entry_that_cannot_be_read_keeps_no_other_from_being_due() -> None:
    seen = Beat(Celery(), [entry({"cron": "at noon"}, None, "odd"), entry(HOURLY, None)], NOW).look()

    assert [found.name for found in seen.due] == ["it"]
    assert "odd" not in seen.following


def test_no_entry_of_celerys_own_configuration_is_run() -> None:
    app = Celery()
    app.conf.beat_schedule = {"theirs": {"task": "x", "schedule": 1.0}}

    assert Beat(app, [], NOW).look().following == {}


@pytest.mark.parametrize("cron", ["", "* * *", "61 * * * *", "* * * * noday", "0 3 * * * *"])
def test_a_schedule_that_nobody_can_keep_is_refused_with_a_sentence(cron: str) -> None:
    with pytest.raises(ValueError, match="a schedule "):
        read_schedule({"cron": cron}, now=lambda: NOW)
