"""Admission: in the wanted order, as far as slots are free, never more, whoever else admits at the time."""

import asyncio

import pytest

from shared.db import slots
from shared.db.session import transaction
from shared.db.slots import InFlight
from shared.pipeline import DOWNLOAD, MAX_CHUNKS, ChunkState, JobState
from tests.core import board_at


async def test_at_most_35_chunks_are_in_flight(database_url: str) -> None:
    async with board_at(database_url) as board:
        waiting = await board.chunks_of(await board.job(chunks=50))

        admitted = await board.admit(*waiting)

        assert admitted == waiting[:MAX_CHUNKS]
        assert await board.held_slots() == set(waiting[:35])
        assert await board.admit(*waiting) == []


async def test_schedulers_that_admit_at_once_share_the_slots(database_url: str) -> None:
    async with board_at(database_url, connections=8) as board:
        waiting = await board.chunks_of(await board.job(chunks=60))
        await board.admit()  # so that the slots exist

        admitted = await asyncio.gather(*(board.admit(*waiting[one::6]) for one in range(6)))

        let_in = [chunk for some in admitted for chunk in some]
        assert len(let_in) == len(set(let_in)) <= MAX_CHUNKS
        assert await board.held_slots() == set(let_in)
        assert len(await board.run("SELECT id FROM chunks WHERE state = 'download_ready'")) == len(let_in)


async def test_schedulers_that_want_the_same_chunks_admit_each_once(database_url: str) -> None:
    async with board_at(database_url, connections=8) as board:
        waiting = await board.chunks_of(await board.job(chunks=10))
        await board.admit()

        await asyncio.gather(*(board.admit(*waiting) for _ in range(6)))

        histories = await board.histories()
        assert all(moves == [("pending", "download_ready")] for moves in histories.values())
        assert await board.held_slots() == set(histories)


async def test_the_wanted_order_counts_and_not_the_ids(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second, third = await board.chunks_of(await board.job(chunks=3))

        admitted = await board.admit(third, first, second, max_chunks=2)

        assert admitted == [first, third]


async def test_each_chunk_gets_the_cell_at_its_place(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await board.chunks_of(await board.job(chunks=2))
        async with transaction(board.engine) as connection:
            await slots.provide(connection, 5)
            await slots.admit(connection, [second, first], ["main", "second", "unused"])

        assert ((await board.chunk(second)).cell, (await board.chunk(first)).cell) == ("main", "second")


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PAUSED, JobState.CANCELLING, JobState.COMPLETED])
async def test_chunks_of_a_job_that_does_not_run_are_not_admitted(database_url: str, state: JobState) -> None:
    async with board_at(database_url) as board:
        job = await board.job(state=state)

        assert await board.admit(*await board.chunks_of(job)) == []
        async with transaction(board.engine) as connection:
            assert await slots.next_waiting(connection, 5) == []
            assert await slots.all_waiting(connection) == {}


async def test_fewer_slots_are_provided_as_they_become_free(database_url: str) -> None:
    async with board_at(database_url) as board:
        waiting = await board.chunks_of(await board.job(chunks=4))
        await board.admit(*waiting[:3], max_chunks=3)

        async with transaction(board.engine) as connection:
            await slots.provide(connection, 1)
        assert await board.held_slots() == set(waiting[:3]), "a slot that is taken stays"

        claim = await board.claim(DOWNLOAD, waiting[2])
        assert claim is not None
        await board.run("UPDATE slots SET chunk_id = NULL WHERE chunk_id = :id", id=waiting[2])
        async with transaction(board.engine) as connection:
            await slots.provide(connection, 1)
        assert await board.one("SELECT count(*) FROM slots") == 2


async def test_what_waits_is_told_in_the_order_of_the_priority_set(database_url: str) -> None:
    async with board_at(database_url) as board:
        late = await board.chunks_of(await board.job(chunks=2, score=100))
        early = await board.chunks_of(await board.job(chunks=2, score=50))

        async with transaction(board.engine) as connection:
            in_order = await slots.next_waiting(connection, 3)
            everything = await slots.all_waiting(connection)
            first_start = await slots.next_start(connection)

        assert in_order == [*early, late[0]]
        assert sorted(everything, key=lambda chunk: everything[chunk]) == [*early, *late]
        assert first_start == 50.0


async def test_what_holds_slots_is_counted_by_cell(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second, third = await board.chunks_of(await board.job(chunks=3))
        await board.admit(first, second)
        await board.admit(third, cell="other")
        await board.claim(DOWNLOAD, first)
        await board.run("UPDATE chunks SET work_bytes = 500 WHERE id = :id", id=first)

        async with transaction(board.engine) as connection:
            counted = await slots.in_flight(connection, most_bytes=300)
            all_and_held = await slots.counted(connection)

        assert counted == {
            "main": InFlight(chunks=2, not_started=1, written_bytes=300),
            "other": InFlight(chunks=1, not_started=1, written_bytes=0),
        }
        assert all_and_held == (MAX_CHUNKS, 3)


async def test_an_ended_chunk_frees_its_slot_for_the_next(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await board.chunks_of(await board.job(chunks=2))
        ended = await board.to_cleaning(first)
        await board.run("DELETE FROM slots WHERE chunk_id IS NULL")
        assert await board.admit(second, max_chunks=1) == [], "until the work area is cleaned"

        await board.close(ended)

        assert await board.admit(second, max_chunks=1) == [second]
        assert await board.state(first) is ChunkState.COMPLETED
