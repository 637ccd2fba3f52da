"""A dataset in figures: worked out by the scheduler from its indexes, told by the gateway."""

import json
from pathlib import Path

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.services import Services
from scheduler.statistician import statistics_of
from shared.index import index_key, to_parquet
from shared.papers import STATISTICS_KEY
from shared.statistics import Statistics
from tests.integration.gateway.conftest import put, request_for
from tests.integration.gateway.test_gateway_images import index_table

#: Rows of chunks in order, as `index_table` spells them.
CHUNKS = ("aans", "aaaa", "sad")


@pytest.fixture
async def job(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path) -> str:
    """A job whose chunks have ended."""
    made: str = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]
    await add_chunks(database, made, place, revision=0, first_row=0, chunks=CHUNKS)
    return made


async def add_chunks(
    database: asyncpg.Connection, job: str, place: Path, *, revision: int, first_row: int, chunks: tuple[str, ...]
) -> None:
    for ordinal, kinds in enumerate(chunks):
        await database.execute(
            """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                                   virtual_start, score, state)
               VALUES ($1, $2, $3, $4, 'p', 0, 1, 'free', 0, 0, 'completed')""",
            *(job, ordinal, first_row, len(kinds)),
        )
        path = place / index_key(revision, ordinal, 0)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(to_parquet(index_table(first_row, kinds)))
        first_row += len(kinds)


async def counted(app: FastAPI, database: asyncpg.Connection, job: str) -> Statistics:
    services: Services = app.state.services
    found = await database.fetchrow(
        "SELECT dataset_id, destination FROM jobs JOIN datasets ON datasets.id = dataset_id WHERE jobs.id = $1", job
    )
    async with services.resources.stores.at(found["destination"], None) as store:
        told = await statistics_of(services.resources, store, found["dataset_id"])
    assert told is not None
    return told


async def test_there_are_none_until_a_job_has_ended(api: httpx2.AsyncClient, job: str) -> None:
    answer = await api.get(f"/v1/jobs/{job}/statistics")

    assert (answer.status_code, answer.json()["code"]) == (404, "no_statistics")


async def test_what_lies_beside_the_data_is_told(
    api: httpx2.AsyncClient, app: FastAPI, database: asyncpg.Connection, job: str, place: Path
) -> None:
    told = await counted(app, database, job)
    put(place / STATISTICS_KEY, told.model_dump_json())

    answer = await api.get(f"/v1/jobs/{job}/statistics")

    assert answer.status_code == 200, answer.text
    assert Statistics.model_validate(answer.json()) == told
    assert (told.rows, told.accepted, told.rows_without_index) == (11, 7, 0)
    assert told.rejected_by_reason == {"too_small": 2, "duplicate": 1, "http_not_found": 1}
    assert [(host.host, host.rows) for host in told.hosts.accepted] == [("example.com", 7)]


async def test_what_is_no_index_is_counted_apart(
    app: FastAPI, database: asyncpg.Connection, job: str, place: Path
) -> None:
    (place / index_key(0, 0, 0)).unlink()
    (place / index_key(0, 1, 0)).write_bytes(b"PAR1 no index")

    told = await counted(app, database, job)

    assert (told.rows, told.rows_without_index) == (3, 8)


async def test_of_a_row_in_several_revisions_the_newest_counts(
    app: FastAPI, database: asyncpg.Connection, job: str, place: Path
) -> None:
    again = await database.fetchval(
        """INSERT INTO jobs (tenant_id, dataset_id, revision, kind, name, recipe, source, digest)
           SELECT tenant_id, dataset_id, 1, 'retry', name, recipe, source, 'other' FROM jobs WHERE id = $1
           RETURNING id""",
        job,
    )
    await add_chunks(database, again, place, revision=1, first_row=2, chunks=("aa",))

    told = await counted(app, database, job)

    assert (told.revision, told.rows, told.accepted) == (1, 11, 9)
    assert told.rejected_by_reason == {"duplicate": 1, "too_small": 1}


@pytest.mark.parametrize("body", ["", "[]", "{" * 2_000_000, json.dumps({"rows": "many"})])
async def test_a_file_of_somebody_else_is_not_told(api: httpx2.AsyncClient, job: str, place: Path, body: str) -> None:
    put(place / STATISTICS_KEY, body)

    answer = await api.get(f"/v1/jobs/{job}/statistics")

    assert (answer.status_code, answer.json()["code"]) == (404, "no_statistics")
