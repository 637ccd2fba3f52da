"""Looking at jobs and moving them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from redis.asyncio import Redis

from gateway.settings import GatewaySettings
from shared import progress
from shared.progress import Live
from tests.integration.gateway.conftest import request_for
from tests.servers import Valkey


async def submitted(api: httpx2.AsyncClient, place: Path) -> str:
    made: str = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]
    return made


async def add_chunk(database: asyncpg.Connection, job: str, ordinal: int, state: str, shown: str = "{}") -> int:
    return int(
        await database.fetchval(
            """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                                   virtual_start, score, state, progress)
               VALUES ($1, $2, $2 * 500, 500, 'p', 0, 1, 'free', 0, 0, $3, $4) RETURNING id""",
            job,
            ordinal,
            state,
            shown,
        )
    )


MOVES: list[tuple[str, str, str | None, str]] = [
    # verb, state before, planned: "list read" | "begun" | None, state after
    ("pause", "queued", None, "paused"),
    ("pause", "planning", "begun", "paused"),
    ("pause", "running", "list read", "paused"),
    ("pause", "paused", None, "paused"),
    ("pause", "finishing", "list read", "finishing"),
    ("resume", "paused", None, "queued"),
    ("resume", "paused", "begun", "planning"),
    ("resume", "paused", "list read", "running"),
    ("resume", "running", "list read", "running"),
    ("resume", "queued", None, "queued"),
    ("cancel", "queued", None, "cancelling"),
    ("cancel", "running", "list read", "cancelling"),
    ("cancel", "paused", "begun", "cancelling"),
    ("cancel", "finishing", "list read", "cancelling"),
    ("cancel", "cancelling", None, "cancelling"),
    ("cancel", "cancelled", "list read", "cancelled"),
]


@pytest.mark.parametrize(("verb", "before", "planned", "after"), MOVES)
async def test_a_move_takes_a_job_from_where_it_is_and_may_be_repeated(
    api: httpx2.AsyncClient,
    database: asyncpg.Connection,
    place: Path,
    verb: str,
    before: str,
    planned: str | None,
    after: str,
) -> None:
    job = await submitted(api, place)
    await database.execute(
        "UPDATE jobs SET state = $1, cursor = $2, planned_at = $3",
        before,
        None if planned is None else "{}",
        datetime.now(UTC) if planned == "list read" else None,
    )

    first = await api.post(f"/v1/jobs/{job}/{verb}")
    second = await api.post(f"/v1/jobs/{job}/{verb}")

    assert [(answer.status_code, answer.json()["state"]) for answer in (first, second)] == [(200, after)] * 2


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
@pytest.mark.parametrize("state", ["completed", "completed_with_failures", "failed"])
async def test_a_job_that_has_ended_cannot_be_moved(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, verb: str, state: str
) -> None:
    job = await submitted(api, place)
    await database.execute("UPDATE jobs SET state = $1", state)

    answer = await api.post(f"/v1/jobs/{job}/{verb}")

    assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")
    assert await database.fetchval("SELECT state FROM jobs") == state


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_a_job_being_cancelled_is_not_brought_back(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, verb: str
) -> None:
    job = await submitted(api, place)
    await api.post(f"/v1/jobs/{job}/cancel")

    answer = await api.post(f"/v1/jobs/{job}/{verb}")

    assert (answer.status_code, answer.json()["code"]) == (409, "job_cancelling")
    assert await database.fetchval("SELECT state FROM jobs") == "cancelling"


async def test_a_job_shows_ended_chunks_and_those_in_flight(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path, redis_url: str
) -> None:
    job = await submitted(api, place)
    await database.execute(
        """UPDATE jobs SET state = 'running', planned_rows = 2000, planned_at = now(), stored_bytes = 70,
                           started_at = now() - interval '10 s',
                           counts = '{"accepted": 400, "rejected": {"too_small": 99, "http_not_found": 1}}'"""
    )
    await add_chunk(database, job, 0, "completed")
    await add_chunk(database, job, 1, "validating", '{"download": 500, "validate": 100}')
    chunk = await add_chunk(database, job, 2, "downloading", '{"download": 10}')
    async with Redis.from_url(redis_url) as redis:
        await progress.write(redis, UUID(job), chunk, Live(stage="download", done=40, passed=39, size_bytes=1))

    shown = (await api.get(f"/v1/jobs/{job}")).json()

    assert shown["progress"] == {
        "download": {"done": 500 + 500 + 40, "total": 2000},
        "validate": {"done": 500 + 100, "total": 2000},
        "upload": {"done": 500, "total": 2000},
    }
    assert (shown["accepted"], shown["rejected"]) == (400, {"too_small": 99, "http_not_found": 1})
    assert (shown["rows"], shown["planned"], shown["stored_bytes"]) == (2000, True, 70)
    assert 40 < shown["images_per_second"] <= 50


async def test_a_job_shows_why_it_failed_and_what_it_waits_for(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    job = await submitted(api, place)
    waiting = (await api.get(f"/v1/jobs/{job}")).json()
    await database.execute("UPDATE jobs SET state = 'failed', error_code = 'bad_source', error = 'it is cut'")

    failed = (await api.get(f"/v1/jobs/{job}")).json()

    assert (waiting["error"], waiting["images_per_second"]) == (None, None)
    assert failed["error"] == {"code": "bad_source", "detail": "it is cut"}


async def test_jobs_are_paged_newest_first_without_gap_or_repeat(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    made = [await submitted(api, place.with_name(f"d{number}")) for number in range(5)]
    await database.execute("UPDATE jobs SET created_at = now()")  # the id decides where the time does not
    expected = [str(row["id"]) for row in await database.fetch("SELECT id FROM jobs ORDER BY id DESC")]
    await database.execute("UPDATE jobs SET state = 'paused' WHERE id = $1", made[0])

    pages: list[dict[str, Any]] = [(await api.get("/v1/jobs", params={"limit": 2})).json()]
    while pages[-1]["has_more"]:
        following = {"limit": 2, "cursor": pages[-1]["next_cursor"]}
        pages.append((await api.get("/v1/jobs", params=following)).json())
    paused = (await api.get("/v1/jobs", params={"state": "paused"})).json()

    assert [job["id"] for page in pages for job in page["data"]] == expected
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert pages[-1]["next_cursor"] is None
    assert [job["id"] for job in paused["data"]] == [made[0]]


class TestWithoutRedis:
    """Redis is only for livelier figures."""

    @pytest.fixture
    def redis_url(self, own_redis: Valkey) -> str:
        return own_redis.url

    async def test_jobs_are_accepted_shown_and_moved(
        self,
        api: httpx2.AsyncClient,
        database: asyncpg.Connection,
        own_redis: Valkey,
        place: Path,
        settings: GatewaySettings,
    ) -> None:
        own_redis.stop()
        job = await submitted(api, place)
        await database.execute("UPDATE jobs SET state = 'running', planned_rows = 500, planned_at = now()")
        await add_chunk(database, job, 0, "downloading", '{"download": 10}')

        async with asyncio.timeout(5):
            shown = (await api.get(f"/v1/jobs/{job}")).json()
            paused = (await api.post(f"/v1/jobs/{job}/pause")).json()
            ready = await api.get("/readyz")

        assert shown["progress"]["download"] == {"done": 10, "total": 500}
        assert paused["state"] == "paused"
        assert ready.status_code == 200
