"""The lone scheduler's lease: one leads, others stand by, and a former leader can do nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scheduler.admitter import Admitter
from scheduler.leadership import Leadership
from shared.db import cells, leader
from shared.db.leader import NotLeader, Term
from shared.db.session import transaction
from shared.resources import open_resources
from shared.waiting import WaitingSet
from tests.core import ROOMY, Board, board_at, scheduler_settings
from tests.system import until


async def _acquire(board: Board, holder: str) -> Term | None:
    async with transaction(board.engine) as connection:
        return await leader.acquire(connection, holder)


async def _lapse(board: Board) -> None:
    await board.run("UPDATE leader SET expires_at = clock_timestamp() - interval '1 s'")


async def test_of_many_that_ask_at_once_one_leads(database_url: str) -> None:
    async with board_at(database_url, connections=8) as board:
        terms = await asyncio.gather(*(_acquire(board, f"scheduler {number}") for number in range(8)))

        assert len([term for term in terms if term]) == 1


async def test_all_works_of_one_scheduler_that_ask_at_once_hear_that_it_leads(database_url: str) -> None:
    async with board_at(database_url, connections=8) as board:
        leadership = Leadership(board.engine)

        terms = await asyncio.gather(*(leadership.term() for _ in range(8)))

        assert [term.number if term else None for term in terms] == [1] * 8


async def test_renewing_in_time_keeps_the_term(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")

        assert await _acquire(board, "first") == first
        assert await _acquire(board, "second") is None


async def test_a_lapsed_lease_begins_a_new_term_even_for_the_same_holder(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")
        await _lapse(board)
        again = await _acquire(board, "first")
        await _lapse(board)
        second = await _acquire(board, "second")

        assert [term and term.number for term in (first, again, second)] == [1, 2, 3]


async def test_who_resigns_lets_another_lead_at_once(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")
        assert first
        async with transaction(board.engine) as connection:
            await leader.resign(connection, first)

        assert await _acquire(board, "second") is not None


async def test_a_stale_resignation_does_not_depose_the_successor(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")
        assert first
        await _lapse(board)
        second = await _acquire(board, "second")
        assert second

        async with transaction(board.engine) as connection:
            await leader.resign(connection, first)

        async with leader.leading(board.engine, second):
            pass


async def test_a_former_leader_gets_no_transaction(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")
        assert first
        await _lapse(board)

        with pytest.raises(NotLeader):
            async with leader.leading(board.engine, first):
                pytest.fail("a lease that ran out is no lease")

        await _acquire(board, "second")
        with pytest.raises(NotLeader):
            async with leader.leading(board.engine, first):
                pytest.fail("a former leader must not act")


async def test_a_successor_waits_for_the_leaders_open_transaction(database_url: str) -> None:
    async with board_at(database_url) as board:
        first = await _acquire(board, "first")
        assert first
        async with leader.leading(board.engine, first):
            await _lapse(board)
            taking_over = asyncio.create_task(_acquire(board, "second"))
            await until("the successor waits for a lock", _somebody_waits(board))
            assert not taking_over.done()

        assert await taking_over == Term(holder="second", number=first.number + 1)


async def test_a_leader_renews_beside_its_own_open_transactions(database_url: str) -> None:
    async with board_at(database_url) as board:
        term = await _acquire(board, "first")
        assert term
        async with leader.leading(board.engine, term), asyncio.timeout(2):
            assert await _acquire(board, "first") == term


def _somebody_waits(board: Board) -> Callable[[], Awaitable[bool]]:
    async def waits() -> bool:
        return bool(await board.run("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))

    return waits


async def test_a_scheduler_of_a_past_term_admits_nothing(database_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        waiting = WaitingSet(resources.redis)
        stale, current = Leadership(resources.engine), Leadership(resources.engine)
        async with transaction(board.engine) as connection:
            await cells.report(connection, "main", "downloader-a-1", "host", ROOMY)
        await board.job(chunks=3)
        former = await stale.term()
        assert former
        await _lapse(board)
        term = await current.term()
        assert term

        with pytest.raises(NotLeader):
            await Admitter(settings, resources, waiting).admit(former)
        assert await board.held_slots() == set()

        admitter = Admitter(settings, resources, waiting)
        await admitter.audit()
        assert await admitter.admit(term) == 3
