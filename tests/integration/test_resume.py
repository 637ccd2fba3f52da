"""A job that is resumed goes on at once."""

from uuid import UUID

from shared.db import jobs
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, JobState
from tests.core import Board, board_at


async def move(board: Board, job: UUID, *, resumed: bool) -> None:
    tenant = await board.one("SELECT tenant_id FROM jobs WHERE id = :id", id=job)
    async with transaction(board.engine) as connection:
        assert await (jobs.resume if resumed else jobs.pause)(connection, tenant, job)


async def test_a_bell_that_was_refused_while_paused_is_rung_anew_on_resume(database_url: str) -> None:
    async with board_at(database_url) as board:
        job = await board.job(chunks=2)
        first, second = await board.chunks_of(job)
        await board.admit(first, second)
        await board.take_bells()
        await board.claimed(DOWNLOAD, first)

        await move(board, job, resumed=False)
        refused = await board.claim(DOWNLOAD, second)
        await move(board, job, resumed=True)

        assert refused is None
        assert await board.job_state(job) is JobState.RUNNING
        assert [bell.chunk_id for bell in await board.take_bells()] == [second]
