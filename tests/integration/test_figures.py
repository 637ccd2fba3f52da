"""The figures of the whole system, as the database holds them."""

import pytest

from shared.db import figures
from shared.db.figures import Backlog
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, VALIDATE
from tests.core import board_at


async def test_the_backlog_tells_what_waits_and_since_when_nobody_was_served(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, *_ = await board.chunks_of(await board.job(chunks=3))
        await board.run("UPDATE chunks SET created_at = clock_timestamp() - interval '1 hour'")

        async with transaction(board.engine) as connection:
            unserved = await figures.backlog_by_tier(connection)
        await board.admit(first)
        async with transaction(board.engine) as connection:
            served = await figures.backlog_by_tier(connection)

        assert unserved == {
            "free": Backlog(
                chunks=3,
                oldest_seconds=pytest.approx(3600, abs=60),
                unserved_seconds=pytest.approx(3600, abs=60),
            )
        }
        assert served == {
            "free": Backlog(
                chunks=2, oldest_seconds=pytest.approx(3600, abs=60), unserved_seconds=pytest.approx(0, abs=60)
            )
        }


async def test_nothing_that_waits_for_its_client_counts_as_backlog(database_url: str) -> None:
    async with board_at(database_url) as board:
        await board.job(chunks=2)
        await board.run("UPDATE jobs SET state = 'paused'")

        async with transaction(board.engine) as connection:
            assert await figures.backlog_by_tier(connection) == {}
            assert await figures.jobs_by_state(connection) == {"paused": 1}
            assert await figures.chunks_by_state(connection) == {"pending": 2}


async def test_a_chunk_that_is_to_rest_is_not_late_before_its_time(database_url: str) -> None:
    async with board_at(database_url) as board:
        late, resting = await board.chunks_of(await board.job(chunks=2))
        await board.claimed(VALIDATE, late)
        await board.admit(resting)
        await board.run(
            "UPDATE chunks SET state = :ready, ready_at = clock_timestamp() - interval '100 s' WHERE id = :id",
            ready=VALIDATE.ready,
            id=late,
        )
        await board.run(
            "UPDATE chunks SET ready_at = clock_timestamp() - interval '100 s',"
            " not_before = clock_timestamp() + interval '100 s' WHERE id = :id",
            id=resting,
        )

        async with transaction(board.engine) as connection:
            oldest = await figures.oldest_ready(connection)

        assert oldest == {VALIDATE.ready: pytest.approx(100, abs=30), DOWNLOAD.ready: 0.0}
