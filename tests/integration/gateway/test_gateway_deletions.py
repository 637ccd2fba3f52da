"""A dataset is wished gone, and lists of jobs are narrowed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx2

from tests.integration.gateway.conftest import request_for


async def test_a_deleted_dataset_is_gone_at_once_and_its_place_is_taken_until_it_is_empty(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    job = (await api.post("/v1/jobs", json=request_for(place))).json()
    await database.execute("UPDATE jobs SET state = 'completed'")

    answer = await api.delete(f"/v1/jobs/{job['id']}")

    assert answer.status_code == 202
    assert answer.json() == {"dataset_id": job["dataset_id"], "destination": job["destination"]}
    assert (await api.get(f"/v1/jobs/{job['id']}")).status_code == 404
    assert (await api.get("/v1/jobs")).json()["data"] == []
    assert (await api.delete(f"/v1/jobs/{job['id']}")).status_code == 404
    again = await api.post("/v1/jobs", json=request_for(place))
    assert (again.status_code, again.json()["code"]) == (409, "destination_taken")


async def test_only_a_dataset_at_rest_can_be_deleted_and_only_by_its_owner(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    job = (await api.post("/v1/jobs", json=request_for(place))).json()

    busy = await api.delete(f"/v1/jobs/{job['id']}")
    await database.execute("UPDATE jobs SET state = 'completed'")
    foreign = await stranger.delete(f"/v1/jobs/{job['id']}")

    assert (busy.status_code, busy.json()["code"]) == (409, "dataset_busy")
    assert foreign.status_code == 404
    assert await database.fetchval("SELECT delete_asked_at FROM datasets") is None


async def test_a_list_of_jobs_is_narrowed_by_dataset_kind_and_time(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    old = (await api.post("/v1/jobs", json=request_for(place.with_name("old")))).json()
    await database.execute("UPDATE jobs SET state = 'completed', created_at = now() - interval '3 days'")
    more = {"source": {"rows": [{"url": "https://example.com/c.jpg"}]}}
    appended = (await api.post(f"/v1/jobs/{old['id']}/append", json=more)).json()
    new = (await api.post("/v1/jobs", json=request_for(place))).json()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    async def shown(**filters: str) -> list[str]:
        return [job["id"] for job in (await api.get("/v1/jobs", params=filters)).json()["data"]]

    assert await shown() == [new["id"], appended["id"], old["id"]]
    assert await shown(dataset=old["dataset_id"]) == [appended["id"], old["id"]]
    assert await shown(kind="append") == [appended["id"]]
    assert await shown(created_from=yesterday) == [new["id"], appended["id"]]
    assert await shown(created_before=yesterday) == [old["id"]]
    assert await shown(dataset=new["dataset_id"], state="completed") == []
    assert (await api.get("/v1/jobs", params={"created_from": "2026-01-01T00:00:00"})).status_code == 422


async def test_a_waiting_job_tells_how_many_chunks_are_before_it(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    jobs = [(await api.post("/v1/jobs", json=request_for(place.with_name(name)))).json()["id"] for name in ("a", "b")]
    await database.execute("UPDATE jobs SET state = 'running', planned_rows = 3")
    for job, scores in zip(jobs, ([1.0, 2.0, 9.0], [5.0]), strict=True):
        for ordinal, score in enumerate(scores):
            await database.execute(
                """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                                       virtual_start, score)
                   VALUES ($1, $2, 0, 1, 'x', 0, 0, 'free', 0, $3)""",
                *(job, ordinal, score),
            )

    ahead = [(await api.get(f"/v1/jobs/{job}")).json()["chunks_ahead"] for job in jobs]
    listed = [job["chunks_ahead"] for job in (await api.get("/v1/jobs")).json()["data"]]

    assert ahead == [0, 2]
    assert listed == [2, 0]
