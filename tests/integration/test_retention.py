"""What is forgotten after a while, and what is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.housekeeper import Housekeeper
from shared.pipeline import JobState
from shared.resources import open_resources
from tests.core import Board, board_at, scheduler_settings


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def housekeeper(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Housekeeper]:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with open_resources(settings) as resources:
        yield Housekeeper(settings, resources)


async def test_keys_go_long_after_they_became_useless(board: Board, housekeeper: Housekeeper) -> None:
    await board.job()
    for key, expired, revoked in (
        ("good", None, None),
        ("lately", 3, None),
        ("expired", 91, None),
        ("revoked", None, 91),
        ("revoked-and-to-expire", -30, 91),
    ):
        await board.run(
            """INSERT INTO api_keys (id, tenant_id, secret_hash, expires_at, revoked_at)
               SELECT :id, id, '', now() - make_interval(days => :expired), now() - make_interval(days => :revoked)
               FROM tenants""",
            id=key,
            expired=expired,
            revoked=revoked,
        )

    await housekeeper.forget_keys()

    assert {row.id for row in await board.run("SELECT id FROM api_keys")} == {"good", "lately"}


async def _ended(board: Board, state: JobState, *, days_ago: int) -> int:
    """A chunk with some history, of a job that ended then; its moves are as old."""
    job = await board.job()
    (chunk,) = await board.chunks_of(job)
    await board.close(await board.to_cleaning(chunk))
    await board.set_job(job, state)
    await board.run(
        """UPDATE jobs SET created_at = now() - make_interval(days => :days),
               finished_at = CASE WHEN :ended THEN now() - make_interval(days => :days) END WHERE id = :job""",
        job=job,
        days=days_ago,
        ended=state is not JobState.RUNNING,
    )
    await board.run(
        "UPDATE chunk_events SET at = now() - make_interval(days => :days) WHERE chunk_id = :chunk",
        chunk=chunk,
        days=days_ago,
    )
    return chunk


async def test_moves_go_long_after_their_job_has_ended(board: Board, housekeeper: Housekeeper) -> None:
    going_on = await _ended(board, JobState.RUNNING, days_ago=200)
    old = await _ended(board, JobState.COMPLETED, days_ago=200)
    young = await _ended(board, JobState.COMPLETED, days_ago=20)

    await housekeeper.forget_history()

    assert set(await board.histories()) == {going_on, young}
    assert old not in await board.histories()


async def test_fingerprints_go_when_nothing_was_added_to_a_dataset_for_long(
    board: Board, housekeeper: Housekeeper
) -> None:
    going_on, old, young = [
        await _ended(board, state, days_ago=days)
        for state, days in ((JobState.RUNNING, 400), (JobState.COMPLETED, 400), (JobState.CANCELLED, 300))
    ]
    await board.run(
        """INSERT INTO fingerprints (dataset_id, sha256, row)
           SELECT dataset_id, sha256(CAST(n AS text)::bytea), n FROM jobs, generate_series(0, 3) AS n"""
    )

    await housekeeper.forget_fingerprints()

    kept = await board.run(
        """SELECT DISTINCT chunks.id FROM fingerprints JOIN jobs USING (dataset_id)
           JOIN chunks ON job_id = jobs.id"""
    )
    assert {row.id for row in kept} == {going_on, young}
    assert old not in {row.id for row in kept}
