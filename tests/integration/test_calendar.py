"""The calendar: entries fall due once, whoever looks, and what went wrong is written down."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.calendar import Calendar, Errand
from scheduler.leadership import Leadership
from shared.broker import build_app
from shared.calendar import HOUSEKEEPING
from shared.db import calendar
from shared.db.calendar import Listed, Run
from shared.db.leader import NotLeader, Term
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable, StoreUnavailable
from shared.resources import Resources, open_resources
from tests.core import Board, board_at, scheduler_settings

HOUSE = {each.errand.value for each in HOUSEKEEPING}


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


@pytest.fixture
async def term(resources: Resources) -> Term:
    leading = await Leadership(resources.engine).term()
    assert leading is not None
    return leading


class Desk:
    """A calendar whose errands only say that they were run."""

    def __init__(self, resources: Resources) -> None:
        self.done: list[str] = []
        self.trouble: Exception | None = None
        self.resources = resources
        errands: dict[str, Errand] = dict.fromkeys(HOUSE, self._errand)
        self.calendar = Calendar(resources, build_app(resources.settings), errands)

    async def _errand(self, _term: Term, run: Run) -> None:
        self.done.append(run.entry)
        if self.trouble:
            raise self.trouble

    async def keep(self, term: Term) -> None:
        """Looks until nothing is due."""
        while await self.calendar.keep_calendar(term):
            pass

    async def ask_run(self, name: str) -> bool:
        async with transaction(self.resources.engine) as connection:
            return await calendar.ask_run(connection, name)

    async def set_enabled(self, name: str, is_enabled: bool) -> None:
        async with transaction(self.resources.engine) as connection:
            await calendar.set_enabled(connection, name, is_enabled=is_enabled)

    async def entry(self, name: str) -> Listed:
        async with transaction(self.resources.engine) as connection:
            found = await calendar.get(connection, name)
        assert found is not None
        return found


@pytest.fixture
def desk(resources: Resources) -> Desk:
    return Desk(resources)


async def _let_pass(board: Board, **ago: Any) -> None:
    await board.run("UPDATE calendar SET last_due_at = last_due_at - make_interval(hours => :hours)", **ago)


async def test_what_the_house_needs_is_due_at_the_first_look_and_then_rests(desk: Desk, term: Term) -> None:
    await desk.keep(term)
    await desk.keep(term)

    assert sorted(desk.done) == sorted(HOUSE)
    entry = await desk.entry("tidy_spool")
    assert entry.finished_at
    assert entry.last_due_at
    assert entry.next_due_at
    assert (entry.next_due_at - entry.last_due_at).total_seconds() == 3600


async def test_an_entry_is_due_again_after_its_time(desk: Desk, term: Term, board: Board) -> None:
    await desk.keep(term)
    await _let_pass(board, hours=2)

    await desk.keep(term)

    assert desk.done.count("tidy_spool") == 2
    assert desk.done.count("forget_keys") == 1


async def test_two_who_look_at_the_same_moment_make_one_run(resources: Resources, term: Term, board: Board) -> None:
    desks = [Desk(resources) for _ in range(4)]

    await asyncio.gather(*(desk.calendar.keep_calendar(term) for desk in desks))

    assert await board.one("SELECT count(*) FROM calendar_runs") == len(HOUSE)


async def test_a_former_leader_makes_no_run_and_carries_none_out(desk: Desk, term: Term, board: Board) -> None:
    await desk.keep(term)
    await _let_pass(board, hours=48)
    await desk.ask_run("tidy_spool")
    await board.run("UPDATE leader SET term = term + 1")
    desk.done.clear()

    with pytest.raises(NotLeader):
        await desk.calendar.keep_calendar(term)

    assert desk.done == []
    assert await board.one("SELECT count(*) FROM calendar_runs WHERE finished_at IS NULL") == 1


async def test_what_a_leader_did_not_end_its_successor_carries_out(
    desk: Desk, term: Term, resources: Resources
) -> None:
    desk.trouble = DatabaseUnavailable("PostgreSQL does not answer")
    with pytest.raises(DatabaseUnavailable):
        await desk.keep(term)
    begun = desk.done[0]

    successor = Desk(resources)
    await successor.keep(term)

    assert begun in successor.done
    assert sorted(successor.done) == sorted(HOUSE)


@pytest.mark.parametrize(
    ("trouble", "written"),
    [(StoreUnavailable("the store is away"), "the store is away"), (KeyError("x"), "a bug: KeyError('x')")],
)
async def test_an_errand_that_fails_says_why_and_is_due_again_in_time(
    desk: Desk, term: Term, board: Board, trouble: Exception, written: str
) -> None:
    desk.trouble = trouble
    await desk.keep(term)

    assert (await desk.entry("tidy_spool")).error == written
    desk.trouble = None
    await _let_pass(board, hours=1)
    await desk.keep(term)
    assert (await desk.entry("tidy_spool")).error is None


async def test_a_paused_entry_is_not_due_until_it_goes_on(desk: Desk, term: Term, board: Board) -> None:
    await desk.keep(term)
    await desk.set_enabled("tidy_spool", False)
    await _let_pass(board, hours=2)
    await desk.keep(term)
    assert desk.done.count("tidy_spool") == 1
    assert (await desk.entry("tidy_spool")).next_due_at is None

    await desk.set_enabled("tidy_spool", True)
    await desk.keep(term)

    assert desk.done.count("tidy_spool") == 2


async def test_a_paused_entry_stays_paused_when_the_next_scheduler_starts(
    desk: Desk, term: Term, resources: Resources
) -> None:
    await desk.keep(term)
    await desk.set_enabled("tidy_spool", False)

    await Desk(resources).keep(term)

    assert not (await desk.entry("tidy_spool")).is_enabled


async def test_a_run_may_be_wished_at_any_time_but_not_twice_at_once(desk: Desk, term: Term) -> None:
    await desk.keep(term)
    await desk.set_enabled("tidy_spool", False)

    assert await desk.ask_run("tidy_spool")
    assert not await desk.ask_run("tidy_spool")
    await desk.keep(term)

    assert desk.done.count("tidy_spool") == 2
    assert not (await desk.entry("tidy_spool")).is_open


async def test_an_entry_that_this_version_does_not_know_ends_with_a_sentence(
    desk: Desk, term: Term, board: Board
) -> None:
    await board.run("INSERT INTO calendar (name, schedule) VALUES ('newer', '{\"every_seconds\": 60}')")

    await desk.keep(term)

    assert (await desk.entry("newer")).error == "this scheduler does not know how; is it of an older version?"


async def test_an_entry_that_the_house_no_longer_needs_goes(desk: Desk, term: Term, board: Board) -> None:
    await board.run(
        """INSERT INTO calendar (name, schedule, arguments)
           VALUES ('old', '{"every_seconds": 60}', '{"of": "house"}')"""
    )

    await desk.keep(term)

    assert await board.one("SELECT count(*) FROM calendar WHERE name = 'old'") == 0
