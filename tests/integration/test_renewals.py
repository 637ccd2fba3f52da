"""Datasets that the calendar renews: a job is made once when it is due, and none while one is still at it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from scheduler.calendar import Calendar
from scheduler.housekeeper import Housekeeper
from scheduler.leadership import Leadership
from shared.broker import build_app
from shared.db import calendar, recurring
from shared.db.calendar import Listed
from shared.db.leader import Term
from shared.db.revisions import NewRevision
from shared.db.session import transaction
from shared.pipeline import JobKind, JobState
from shared.resources import open_resources
from tests.core import Board, board_at, scheduler_settings

DAILY = {"every_seconds": 86_400}
#: The house's own entries rest, so that a look carries out one thing.
NO_HOUSE = "UPDATE calendar SET is_enabled = false WHERE arguments ->> 'of' = 'house'"
A_DAY_PASSES = "UPDATE calendar SET last_due_at = last_due_at - interval '25 hours' WHERE name LIKE 're%:%'"
REJECTED = """UPDATE jobs SET counts = '{"accepted": 3, "rejected": {"connect_timeout": 1}}'"""


class Scene:
    """A dataset whose first job has ended, and the calendar of the leader."""

    def __init__(self, board: Board, desk: Calendar, term: Term, new: NewRevision) -> None:
        self.board = board
        self.desk = desk
        self.term = term
        self.new = new

    async def keep(self) -> str:
        async with transaction(self.board.engine) as connection:
            return await recurring.keep(connection, self.new, DAILY)

    async def look(self) -> None:
        """Looks until nothing is due."""
        while await self.desk.keep_calendar(self.term):
            pass

    async def a_day_passes(self) -> None:
        await self.board.run(A_DAY_PASSES)
        await self.look()

    async def jobs(self) -> list[tuple[int, str]]:
        """Revision and kind of each job."""
        rows = await self.board.run("SELECT revision, kind FROM jobs ORDER BY revision")
        return [(row.revision, row.kind) for row in rows]

    async def entry(self) -> Listed | None:
        async with transaction(self.board.engine) as connection:
            return await calendar.get(connection, recurring.name_of(self.new))


@pytest.fixture
async def scene(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        job = await board.job(state=JobState.COMPLETED)
        await board.run(REJECTED)
        term = await Leadership(resources.engine).term()
        assert term is not None
        desk = Calendar(resources, build_app(settings), Housekeeper(settings, resources).errands())
        await desk.keep_calendar(term)
        await board.run(NO_HOUSE)
        await board.run("UPDATE calendar_runs SET finished_at = now()")
        yield Scene(board, desk, term, await retry_of(board, job))


async def retry_of(board: Board, job: UUID) -> NewRevision:
    (row,) = await board.run("SELECT tenant_id, dataset_id, recipe FROM jobs WHERE id = :job", job=job)
    source = {"digest": "1", "reasons": ["connect_timeout"]}
    return NewRevision(**row._mapping, kind=JobKind.RETRY, name="again", source=source, digest="2")


async def test_when_it_is_due_a_job_is_made_and_not_before(scene: Scene) -> None:
    await scene.keep()
    await scene.look()
    assert await scene.jobs() == [(0, "build")]

    await scene.a_day_passes()
    await scene.look()

    assert await scene.jobs() == [(0, "build"), (1, "retry")]
    entry = await scene.entry()
    assert entry is not None
    assert (entry.error, entry.is_open) == (None, False)


async def test_while_its_last_job_runs_none_is_made(scene: Scene) -> None:
    await scene.keep()
    await scene.a_day_passes()

    await scene.a_day_passes()

    assert await scene.jobs() == [(0, "build"), (1, "retry")]
    entry = await scene.entry()
    assert entry is not None
    assert entry.error is not None
    assert "still changing the dataset" in entry.error

    await scene.board.run("UPDATE jobs SET state = 'completed'")
    await scene.a_day_passes()
    assert await scene.jobs() == [(0, "build"), (1, "retry"), (2, "retry")]


async def test_two_who_look_at_the_same_moment_make_one_job(scene: Scene) -> None:
    await scene.keep()
    await scene.board.run(A_DAY_PASSES)

    for _ in range(3):
        await asyncio.gather(*(scene.desk.keep_calendar(scene.term) for _ in range(4)))

    assert await scene.jobs() == [(0, "build"), (1, "retry")]


async def test_without_rows_to_take_again_no_job_is_made(scene: Scene) -> None:
    await scene.board.run("""UPDATE jobs SET counts = '{"accepted": 4, "rejected": {}}'""")
    await scene.keep()

    await scene.a_day_passes()

    assert await scene.jobs() == [(0, "build")]
    entry = await scene.entry()
    assert entry is not None
    assert entry.error is None


async def test_a_refresh_is_made_as_long_as_the_dataset_holds_pictures(scene: Scene) -> None:
    scene.new = replace(scene.new, kind=JobKind.REFRESH, source={"digest": "1", "gone": "keep"})
    await scene.board.run("UPDATE jobs SET counts = jsonb_set(counts, '{accepted}', '0')")
    await scene.keep()
    await scene.a_day_passes()
    assert await scene.jobs() == [(0, "build")]

    await scene.board.run("UPDATE jobs SET counts = jsonb_set(counts, '{accepted}', '3')")
    await scene.a_day_passes()

    assert await scene.jobs() == [(0, "build"), (1, "refresh")]
    assert await scene.board.one("SELECT source ->> 'gone' FROM jobs WHERE revision = 1") == "keep"


@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        ("UPDATE tenants SET suspended_at = now()", "suspended"),
        ("""UPDATE tenants SET quotas = '{"open_jobs": 0}'""", "open_jobs"),
    ],
)
async def test_what_a_tenant_may_not_ask_for_the_calendar_does_not_do(scene: Scene, meanwhile: str, why: str) -> None:
    await scene.keep()
    await scene.board.run(meanwhile)

    await scene.a_day_passes()

    assert await scene.jobs() == [(0, "build")]
    entry = await scene.entry()
    assert entry is not None
    assert why in (entry.error or "")


async def test_an_entry_goes_with_its_dataset(scene: Scene) -> None:
    await scene.keep()
    await scene.board.run("UPDATE datasets SET delete_asked_at = now()")

    await scene.a_day_passes()

    assert await scene.entry() is None


async def test_asked_again_an_entry_is_replaced(scene: Scene) -> None:
    first = await scene.keep()
    scene.new = replace(scene.new, source={**scene.new.source, "reasons": ["http_server_error"]})

    assert await scene.keep() == first
    assert await scene.board.one("SELECT count(*) FROM calendar WHERE name = :name", name=first) == 1
