"""Dead letters by the gateway: who may, what is shown, what can be decided and what cannot."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI

from gateway.credentials import Scope
from shared.db import chunks, failed, poison
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, ChunkState, JobState, Outcome
from tests.core import Board, board_at
from tests.integration.gateway.conftest import MakeKey, client_of

FAILED = "/v1/admin/failed-chunks"
POISON = "/v1/admin/poison-messages"


@pytest.fixture
async def admin(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, await make_key(scopes=(Scope.ADMIN,))) as client:
        yield client


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


async def fail(board: Board, *, count: int = 1, code: str = "chunk_error") -> tuple[UUID, list[int]]:
    """A job that ended with so many failed chunks; they."""
    job = await board.job(chunks=count)
    found = await board.chunks_of(job)
    for chunk in found:
        await fail_again(board, chunk, code=code)
    await board.set_job(job, JobState.FAILED)
    return job, found


async def fail_again(board: Board, chunk: int, *, code: str = "chunk_error") -> None:
    claim = await board.claimed(DOWNLOAD, chunk)
    async with transaction(board.engine) as connection:
        await chunks.end(connection, DOWNLOAD, claim, Outcome.FAILED, error_code=code, error="row 7 is strange")
        (ended,) = await chunks.ended(connection, chunk_id=chunk)
        await chunks.set_counts(connection, ended, accepted=0, rejected={"chunk_failed": 4})
    await board.close(ended)


async def grant(board: Board) -> int:
    """What the scheduler does about wishes."""
    async with transaction(board.engine) as connection:
        return await failed.grant_redrives(connection)


async def decide(admin: httpx2.AsyncClient, verb: str, **what: Any) -> tuple[int, Any]:
    answer = await admin.post(f"{FAILED}/{verb}", json=what)
    return answer.status_code, answer.json().get("code") or answer.json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", FAILED),
        ("GET", f"{FAILED}/1"),
        ("POST", f"{FAILED}/redrive"),
        ("POST", f"{FAILED}/drop"),
        ("GET", POISON),
        ("DELETE", f"{POISON}/1"),
    ],
)
async def test_only_administrators_see_and_decide(api: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await api.request(method, path, json={"chunk": 1})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_failed_chunk_keeps_its_error_its_tries_and_its_history(
    admin: httpx2.AsyncClient, board: Board
) -> None:
    job, (chunk,) = await fail(board)

    (listed,) = (await admin.get(FAILED)).json()["data"]
    shown = (await admin.get(f"{FAILED}/{chunk}")).json()

    assert (listed["id"], listed["job_id"], listed["rows"], listed["state"]) == (chunk, str(job), 4, "failed")
    assert (listed["stage"], listed["attempts"], listed["redrives"]) == ("download", 1, 0)
    assert (listed["error_code"], listed["error"]) == ("chunk_error", "row 7 is strange")
    assert listed["failed_at"] is not None
    assert {name: shown[name] for name in listed} == listed
    assert [event["to_state"] for event in shown["history"]] == ["download_ready", "downloading", "cleaning", "failed"]
    assert shown["history"][2]["error_code"] == "chunk_error"
    assert (await admin.get(f"{FAILED}/999999")).status_code == 404


async def test_failed_chunks_are_paged_newest_first_by_job_and_by_error(
    admin: httpx2.AsyncClient, board: Board
) -> None:
    job, ours = await fail(board, count=3)
    await fail(board, code="store_refused")

    first = (await admin.get(FAILED, params={"job": str(job), "limit": 2})).json()
    rest = (await admin.get(FAILED, params={"job": str(job), "limit": 2, "cursor": first["next_cursor"]})).json()
    refused = (await admin.get(FAILED, params={"code": "store_refused"})).json()

    assert [chunk["id"] for page in (first, rest) for chunk in page["data"]] == ours[::-1]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert [chunk["error_code"] for chunk in refused["data"]] == ["store_refused"]
    assert (await admin.get(FAILED, params={"job": "x"})).status_code == 422


async def test_a_redrive_puts_chunk_and_job_back_and_takes_back_what_was_counted(
    admin: httpx2.AsyncClient, board: Board
) -> None:
    job, (chunk, other) = await fail(board, count=2)

    assert await decide(admin, "redrive", chunk=chunk) == (202, {"chunks": 1, "passed_over": 0})
    waiting = (await admin.get(f"{FAILED}/{chunk}")).json()
    assert await grant(board) == 1

    assert waiting["redrive_asked_at"] is not None
    assert (await board.state(chunk), await board.state(other)) == (ChunkState.PENDING, ChunkState.FAILED)
    row = await board.chunk(chunk)
    assert (row.round, row.attempt, row.outcome, row.ended_at, row.redrive_asked_at) == (1, 0, None, None, None)
    assert row.counts == {"accepted": 0, "rejected": {}}
    assert await board.job_state(job) is JobState.RUNNING
    assert await board.one("SELECT counts FROM jobs") == {"accepted": 0, "rejected": {"chunk_failed": 4}}
    assert await board.one("SELECT finished_at FROM jobs") is None
    assert await grant(board) == 0


async def test_of_redrives_sent_at_once_one_wins(admin: httpx2.AsyncClient, board: Board) -> None:
    _, (chunk,) = await fail(board)

    answers = await asyncio.gather(*(decide(admin, "redrive", chunk=chunk) for _ in range(5)))

    assert sorted(status for status, _ in answers) == [202, 409, 409, 409, 409]
    assert {code for status, code in answers if status == 409} == {"chunk_not_failed"}
    assert await grant(board) == 1
    assert (await board.chunk(chunk)).round == 1


async def test_what_is_not_failed_cannot_be_decided_about(admin: httpx2.AsyncClient, board: Board) -> None:
    (pending,) = await board.chunks_of(await board.job())
    cancelled, (withdrawn,) = await fail(board)
    await board.set_job(cancelled, JobState.CANCELLED)

    for verb in ("redrive", "drop"):
        assert await decide(admin, verb, chunk=pending) == (409, "chunk_not_failed")
        assert await decide(admin, verb, chunk=withdrawn) == (409, "chunk_not_failed")
        assert await decide(admin, verb, chunk=999_999) == (404, "not_found")
        assert await decide(admin, verb) == (422, "invalid_request")
        assert await decide(admin, verb, job=str(uuid4())) in (
            (202, {"chunks": 0, "passed_over": 0}),
            (200, {"chunks": 0, "passed_over": 0}),
        )
    assert (await admin.get(FAILED)).json()["data"] == []


async def test_a_chunk_that_fails_again_and_again_needs_insisting(admin: httpx2.AsyncClient, board: Board) -> None:
    job, (chunk,) = await fail(board)
    for _ in range(3):
        await decide(admin, "redrive", chunk=chunk)
        await grant(board)
        await fail_again(board, chunk)

    assert await decide(admin, "redrive", chunk=chunk) == (409, "redriven_too_often")
    assert await decide(admin, "redrive", job=str(job)) == (202, {"chunks": 0, "passed_over": 1})
    assert await decide(admin, "redrive", chunk=chunk, force=True) == (202, {"chunks": 1, "passed_over": 0})
    assert await grant(board) == 1


async def test_a_dropped_chunk_stays_failed_and_is_nobodys_task_any_more(
    admin: httpx2.AsyncClient, board: Board
) -> None:
    _, (chunk, other) = await fail(board, count=2)

    assert await decide(admin, "drop", chunk=chunk) == (200, {"chunks": 1, "passed_over": 0})

    assert [listed["id"] for listed in (await admin.get(FAILED)).json()["data"]] == [other]
    assert await decide(admin, "redrive", chunk=chunk, force=True) == (409, "chunk_not_failed")
    assert await decide(admin, "drop", chunk=chunk) == (409, "chunk_not_failed")
    assert await board.state(chunk) is ChunkState.FAILED
    assert (await admin.get(f"{FAILED}/{chunk}")).json()["dropped_at"] is not None


async def test_a_redrive_waits_while_its_job_is_being_finished(admin: httpx2.AsyncClient, board: Board) -> None:
    job, (chunk,) = await fail(board)
    await board.set_job(job, JobState.FINISHING)
    await decide(admin, "redrive", chunk=chunk)

    assert await grant(board) == 0
    await board.set_job(job, JobState.COMPLETED_WITH_FAILURES)
    assert await grant(board) == 1
    assert await board.job_state(job) is JobState.RUNNING


async def test_unreadable_messages_are_shown_and_thrown_away(admin: httpx2.AsyncClient, board: Board) -> None:
    async with transaction(board.engine) as connection:
        for number in range(2):
            await poison.keep(connection, queue="download", message={"number": number}, error="no version")

    page = (await admin.get(POISON, params={"limit": 1})).json()
    rest = (await admin.get(POISON, params={"cursor": page["next_cursor"]})).json()
    gone = await admin.delete(f"{POISON}/{page['data'][0]['id']}")

    assert [(each["queue"], each["body"], each["error"]) for each in (*page["data"], *rest["data"])] == [
        ("download", '{"number": 1}', "no version"),
        ("download", '{"number": 0}', "no version"),
    ]
    assert gone.json() == page["data"][0]
    assert (await admin.get(POISON)).json()["data"] == rest["data"]
    assert (await admin.delete(f"{POISON}/{page['data'][0]['id']}")).status_code == 404
