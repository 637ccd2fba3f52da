"""Bells: taken once, put back, rung again, and held until lower chunks have settled their fingerprints."""

import asyncio
from datetime import timedelta

import pytest

from shared.db import bells, chunks
from shared.db.session import transaction
from shared.messages import Why
from shared.pipeline import DOWNLOAD, UPLOAD, VALIDATE, ChunkState, JobState
from tests.core import LONG_HOLD, Board, board_at


async def test_two_ringers_at_once_take_each_bell_once(database_url: str) -> None:
    async with board_at(database_url) as board:
        ready = await board.chunks_of(await board.job(chunks=20))
        await board.admit(*ready)

        taken = await asyncio.gather(*(board.take_bells() for _ in range(4)))

        assert sorted(bell.chunk_id for one in taken for bell in one) == ready
        assert await board.take_bells() == []


async def test_a_bell_that_another_is_about_to_take_is_passed_over(database_url: str) -> None:
    async with board_at(database_url) as board:
        await board.admit(*await board.chunks_of(await board.job(chunks=3)))

        async with transaction(board.engine) as connection:
            taken = await bells.take(connection, hold=LONG_HOLD, why=Why.DISPATCHED, limit=2)
            others = await board.take_bells()

        assert len(taken) == 2
        assert len(others) == 1


async def test_a_bell_tells_stage_cell_and_why(database_url: str) -> None:
    async with board_at(database_url) as board:
        job = await board.job()
        (chunk,) = await board.chunks_of(job)
        await board.admit(chunk, cell="second")

        (bell,) = await board.take_bells(job=job)

        assert (bell.chunk_id, bell.job_id, bell.stage, bell.cell) == (chunk, job, DOWNLOAD, "second")
        assert (bell.attempt, bell.why) == (0, Why.DISPATCHED)


async def test_only_the_named_jobs_bells_are_taken(database_url: str) -> None:
    async with board_at(database_url) as board:
        ours, theirs = await board.job(), await board.job()
        await board.admit(*await board.chunks_of(ours), *await board.chunks_of(theirs))

        taken = await board.take_bells(job=ours)

        assert [bell.job_id for bell in taken] == [ours]


async def test_a_bell_that_was_put_back_is_due_again(database_url: str) -> None:
    async with board_at(database_url) as board:
        await board.admit(*await board.chunks_of(await board.job()))
        taken = await board.take_bells()

        async with transaction(board.engine) as connection:
            await bells.put_back(connection, taken)

        assert await board.take_bells() == taken


async def test_putting_back_a_bell_that_was_answered_meanwhile_changes_nothing(database_url: str) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        await board.admit(chunk)
        taken = await board.take_bells()
        await board.claim(DOWNLOAD, chunk)
        before = await board.chunk(chunk)

        async with transaction(board.engine) as connection:
            await bells.put_back(connection, taken)

        assert await board.chunk(chunk) == before


@pytest.mark.parametrize(
    ("rings", "silent_seconds", "is_rung"),
    [
        # never rung again: after 30 s
        (0, 29, False),
        (0, 31, True),
        # then after twice as long
        (1, 31, False),
        (1, 61, True),
        # at most five minutes, however often
        (5, 299, False),
        (5, 301, True),
        (1000, 301, True),
    ],
)
async def test_when_a_bell_is_rung_again(database_url: str, rings: int, silent_seconds: int, is_rung: bool) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        await board.admit(chunk)
        await board.take_bells()
        await board.run(
            "UPDATE chunks SET rings = :rings, dispatched_at = clock_timestamp() - CAST(:silent AS interval)",
            rings=rings,
            silent=timedelta(seconds=silent_seconds),
        )

        async with transaction(board.engine) as connection:
            again = await bells.take_unanswered(connection)

        assert [(bell.chunk_id, bell.why) for bell in again] == ([(chunk, Why.RUNG_AGAIN)] if is_rung else [])


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.CANCELLING, JobState.FINISHING])
async def test_nothing_rings_for_a_job_that_does_not_run(database_url: str, state: JobState) -> None:
    async with board_at(database_url) as board:
        job = await board.job()
        await board.admit(*await board.chunks_of(job))
        await board.set_job(job, state)

        assert await board.take_bells() == []
        await board.run("UPDATE chunks SET dispatched_at = clock_timestamp() - interval '1 hour'")
        async with transaction(board.engine) as connection:
            assert await bells.take_unanswered(connection) == []


async def _two_before_upload(board: Board, *, recipe: str = "{}") -> tuple[int, int]:
    """A job whose first chunk is validated yet, and whose second waits for its upload."""
    first, second = await board.chunks_of(await board.job(chunks=2, recipe=recipe))
    await board.claimed(VALIDATE, first)
    await board.advance(VALIDATE, await board.claimed(VALIDATE, second))
    return first, second


async def test_an_upload_waits_for_a_lower_chunk_that_has_not_settled(database_url: str) -> None:
    async with board_at(database_url) as board:
        _, second = await _two_before_upload(board)

        assert await board.take_bells(hold=LONG_HOLD) == []
        assert await board.claim(UPLOAD, second, hold=LONG_HOLD) is None, "an early message is refused too"


async def test_settling_lets_the_next_chunk_go(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await board.chunks_of(await board.job(chunks=2))
        uploading = await board.claimed(UPLOAD, first)
        await board.advance(VALIDATE, await board.claimed(VALIDATE, second))
        assert await board.take_bells(hold=LONG_HOLD) == []

        async with transaction(board.engine) as connection:
            await chunks.settle(connection, uploading, UPLOAD, {})

        assert [bell.chunk_id for bell in await board.take_bells(hold=LONG_HOLD)] == [second]


async def test_an_upload_does_not_wait_longer_than_the_hold(database_url: str) -> None:
    async with board_at(database_url) as board:
        _, second = await _two_before_upload(board)
        await board.run("UPDATE chunks SET ready_at = clock_timestamp() - interval '61 s' WHERE id = :id", id=second)

        taken = await board.take_bells(hold=timedelta(seconds=60))

        assert [bell.chunk_id for bell in taken] == [second]


@pytest.mark.parametrize("state", [ChunkState.PENDING, ChunkState.CLEANING, ChunkState.FAILED])
async def test_an_upload_waits_for_no_chunk_that_will_not_settle_soon(database_url: str, state: ChunkState) -> None:
    async with board_at(database_url) as board:
        first, second = await _two_before_upload(board)
        await board.run("UPDATE chunks SET state = :state WHERE id = :id", state=state, id=first)

        assert [bell.chunk_id for bell in await board.take_bells(hold=LONG_HOLD)] == [second]


async def test_order_does_not_matter_to_a_job_that_keeps_duplicates(database_url: str) -> None:
    async with board_at(database_url) as board:
        _, second = await _two_before_upload(board, recipe='{"deduplicate": false}')

        assert [bell.chunk_id for bell in await board.take_bells(hold=LONG_HOLD)] == [second]


async def test_only_upload_keeps_the_order(database_url: str) -> None:
    async with board_at(database_url) as board:
        ready = await board.chunks_of(await board.job(chunks=2))
        await board.admit(*ready)

        assert [bell.chunk_id for bell in await board.take_bells(hold=LONG_HOLD)] == ready
