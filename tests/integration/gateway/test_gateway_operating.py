"""What operators see and steer by the gateway: stages, slots, the calendar."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI

from gateway.credentials import Scope
from shared.calendar import HOUSEKEEPING
from shared.db import calendar, cells, leader
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, UPLOAD, JobState
from tests.core import ROOMY, Board, board_at
from tests.integration.gateway.conftest import MakeKey, client_of

STAGES, SLOTS, CALENDAR = "/v1/admin/stages", "/v1/admin/slots", "/v1/admin/calendar"


@pytest.fixture
async def admin(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, await make_key(scopes=(Scope.ADMIN,))) as client:
        yield client


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


async def test_each_stage_says_what_waits_and_who_works(admin: httpx2.AsyncClient, board: Board) -> None:
    first, second = await board.chunks_of(await board.job(chunks=2))
    await board.claimed(UPLOAD, first)
    await board.admit(second)
    async with transaction(board.engine) as connection:
        await cells.report(connection, "main", "downloader-a-1", "box", ROOMY)
        term = await leader.acquire(connection, "test", lease=timedelta(minutes=5))
        assert term is not None
        await leader.tell(connection, term, {"shut": "slots", "queued": {"download": 3, "validate": 0, "upload": 0}})

    told = (await admin.get(STAGES)).json()

    download, validate, upload = told["data"]
    assert (told["is_led"], told["read_at"] is not None) == (True, True)
    assert (download["ready"], download["running"], download["queued"]) == (1, 0, 3)
    assert [worker["name"] for worker in download["workers"]] == ["downloader-a-1"]
    assert (upload["ready"], upload["running"], upload["workers"]) == (0, 1, [])
    assert validate["paused_at"] is None


async def test_without_a_scheduler_nothing_is_made_up(admin: httpx2.AsyncClient) -> None:
    told = (await admin.get(STAGES)).json()

    assert (told["is_led"], told["read_at"]) == (False, None)
    assert [stage["queued"] for stage in told["data"]] == [None, None, None]


async def test_a_stage_is_paused_until_it_is_resumed(admin: httpx2.AsyncClient, board: Board) -> None:
    (chunk,) = await board.chunks_of(await board.job())
    await board.admit(chunk)

    for _ in range(2):
        paused = (await admin.post(f"{STAGES}/download/pause")).json()["data"][0]

    assert paused["paused_at"] is not None
    assert paused["paused_by"]
    assert await board.claim(DOWNLOAD, chunk) is None
    resumed = (await admin.post(f"{STAGES}/download/resume")).json()["data"][0]
    assert resumed["paused_at"] is None
    assert await board.claim(DOWNLOAD, chunk) is not None


async def test_a_stage_that_is_none_is_refused(admin: httpx2.AsyncClient) -> None:
    answer = await admin.post(f"{STAGES}/wash/pause")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_slot_says_who_holds_it(admin: httpx2.AsyncClient, board: Board) -> None:
    job = await board.job(chunks=2)
    first, second = await board.chunks_of(job)
    await board.claimed(DOWNLOAD, first, owner="downloader-a-1")
    await board.admit(second)

    told = (await admin.get(SLOTS)).json()

    assert (told["slots"], told["held"], told["admission_shut"]) == (35, 2, None)
    taken, waiting = told["data"]
    assert (taken["chunk_id"], taken["job_id"], taken["owner"]) == (first, str(job), "downloader-a-1")
    assert (taken["state"], taken["attempt"]) == ("downloading", 1)
    assert 0 < taken["lease_seconds"] <= 60
    assert (waiting["chunk_id"], waiting["owner"], waiting["lease_seconds"]) == (second, None, None)


async def test_an_entry_of_the_calendar_rests_and_is_run(admin: httpx2.AsyncClient, board: Board) -> None:
    async with transaction(board.engine) as connection:
        await calendar.provide(connection, {each.errand.value: each.schedule for each in HOUSEKEEPING})

    names = [entry["name"] for entry in (await admin.get(CALENDAR)).json()["data"]]
    paused = (await admin.post(f"{CALENDAR}/tidy_spool/pause")).json()
    run = await admin.post(f"{CALENDAR}/tidy_spool/run")

    assert names == sorted(each.errand.value for each in HOUSEKEEPING)
    assert (paused["is_enabled"], paused["schedule"]) == (False, {"every_seconds": 3600})
    assert (run.status_code, run.json()["is_open"]) == (202, True)
    assert (await admin.post(f"{CALENDAR}/tidy_spool/resume")).json()["is_enabled"] is True
    assert (await admin.post(f"{CALENDAR}/nothing/run")).status_code == 404
    assert (await admin.delete(f"{CALENDAR}/tidy_spool")).status_code == 404, "the house keeps its own"


def lay_down(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "dataset.json").write_text("{}")


async def dataset_at(place: Path, board: Board) -> UUID:
    """The job of a dataset that is whole."""
    lay_down(place)
    job = await board.job(destination=str(place), state=JobState.COMPLETED)
    await board.run(
        """UPDATE jobs SET source = '{"key": "lists/x", "digest": "1", "format": "txt", "url_col": "url",
                                      "caption_col": null, "save_columns": []}'"""
    )
    return job


async def test_a_dataset_is_renewed_periodically_until_its_entry_is_removed(
    admin: httpx2.AsyncClient, board: Board, tmp_path: Path
) -> None:
    job = await dataset_at(tmp_path / "datasets" / "cats", board)

    added = await admin.post(CALENDAR, json={"job": str(job), "cron": "0 3 * * *", "reasons": ["connect_timeout"]})
    neither = await admin.post(CALENDAR, json={"job": str(job)})
    wrong = await admin.post(CALENDAR, json={"job": str(job), "cron": "61 * * * *"})
    nobodys = await admin.post(CALENDAR, json={"job": str(uuid4()), "every_seconds": 60})

    assert added.status_code == 201, added.text
    name = added.json()["name"]
    assert name == f"retry:{await board.one('SELECT dataset_id FROM jobs')}"
    assert added.json()["schedule"] == {"cron": "0 3 * * *"}
    assert (neither.status_code, wrong.status_code, nobodys.status_code) == (422, 422, 404)
    assert (await admin.delete(f"{CALENDAR}/{name}")).json()["name"] == name
    assert (await admin.get(CALENDAR)).json()["data"] == []


async def test_a_dataset_is_refreshed_periodically_beside_being_retried(
    admin: httpx2.AsyncClient, board: Board, tmp_path: Path
) -> None:
    job = await dataset_at(tmp_path / "datasets" / "cats", board)
    often = {"job": str(job), "every_seconds": 86_400}

    retried = await admin.post(CALENDAR, json=often)
    refreshed = await admin.post(CALENDAR, json={**often, "kind": "refresh", "gone": "drop"})
    mixed = [
        await admin.post(CALENDAR, json={**often, "kind": "refresh", "reasons": ["connect_timeout"]}),
        await admin.post(CALENDAR, json={**often, "gone": "drop"}),
        await admin.post(CALENDAR, json={**often, "kind": "append"}),
    ]

    dataset = await board.one("SELECT dataset_id FROM jobs")
    assert (retried.status_code, refreshed.status_code) == (201, 201)
    assert refreshed.json()["name"] == f"refresh:{dataset}"
    kept = await board.one("SELECT arguments FROM calendar WHERE name = :name", name=f"refresh:{dataset}")
    assert (kept["kind"], kept["source"]["gone"]) == ("refresh", "drop")
    assert [answer.status_code for answer in mixed] == [422] * 3
    assert len((await admin.get(CALENDAR)).json()["data"]) == 2
