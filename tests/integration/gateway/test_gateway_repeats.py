"""Requests with an idempotency key: answered once, and the same again."""

import asyncio
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.problems import Code
from tests.integration.gateway.conftest import Effects, client_of, request_for
from tests.integration.gateway.test_gateway_access import assert_problem
from tests.system import until


def named(key: str = "one") -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_a_repeated_request_gets_the_answer_of_the_first(
    api: httpx2.AsyncClient, effects: Effects, place: Path
) -> None:
    first = await api.post("/v1/jobs", json=request_for(place), headers=named())
    await effects.database.execute("UPDATE jobs SET state = 'running'")
    before = await effects.seen()

    again = await api.post("/v1/jobs", json=request_for(place), headers=named())

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await effects.seen() == before


async def test_a_key_that_was_used_for_another_request_is_refused(api: httpx2.AsyncClient, place: Path) -> None:
    await api.post("/v1/jobs", json=request_for(place), headers=named())
    dogs = request_for(place.with_name("dogs"))

    other_body = await api.post("/v1/jobs", json=dogs, headers=named())
    other_path = await api.post(f"/v1/jobs/{uuid4()}/cancel", headers=named())

    assert_problem(other_body, 422, Code.IDEMPOTENCY_MISMATCH)
    assert_problem(other_path, 422, Code.IDEMPOTENCY_MISMATCH)


async def test_a_request_that_is_still_being_answered_is_not_begun_again(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    holding = database.transaction()
    await holding.start()
    await database.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
    first = asyncio.create_task(api.post("/v1/jobs", json=request_for(place), headers=named()))
    await until("the first request has claimed its key", partial(_is_claimed, database))

    second = await api.post("/v1/jobs", json=request_for(place), headers=named())
    await holding.rollback()

    assert_problem(second, 409, Code.IDEMPOTENCY_RUNNING)
    assert int(second.headers["retry-after"]) > 0
    assert (await first).status_code == 202


async def test_a_request_whose_gateway_died_may_be_taken_over_after_a_while(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    await api.post("/v1/jobs", json=request_for(place), headers=named())
    died = "UPDATE idempotency_keys SET status = NULL, created_at = created_at - interval '61 s'"
    await database.execute(died)

    again = await api.post("/v1/jobs", json=request_for(place), headers=named())

    assert again.status_code == 200
    assert "idempotent-replayed" not in again.headers
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1


async def test_a_refused_request_may_be_mended_under_the_same_key(api: httpx2.AsyncClient, place: Path) -> None:
    refused = await api.post("/v1/jobs", json={}, headers=named())
    mended = await api.post("/v1/jobs", json=request_for(place), headers=named())

    assert_problem(refused, 422, Code.INVALID_REQUEST)
    assert mended.status_code == 202


async def test_a_key_may_be_used_anew_after_a_day(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    await api.post("/v1/jobs", json=request_for(place), headers=named())
    await database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")

    other = await api.post("/v1/jobs", json=request_for(place.with_name("dogs")), headers=named())

    assert other.status_code == 202


async def test_keys_of_two_tenants_are_two_keys(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    ours = await api.post("/v1/jobs", json=request_for(place), headers=named())

    theirs = await stranger.post("/v1/jobs", json=request_for(place), headers=named())

    assert ours.status_code == 202
    assert_problem(theirs, 409, Code.DESTINATION_TAKEN)
    assert ours.json()["id"] not in theirs.text


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "k\x7f"])
async def test_a_name_that_cannot_be_kept_is_refused(api: httpx2.AsyncClient, place: Path, key: str) -> None:
    answer = await api.post("/v1/jobs", json=request_for(place), headers=named(key))

    assert_problem(answer, 422, Code.INVALID_REQUEST)
    assert answer.json()["errors"][0]["pointer"] == "header Idempotency-Key"


async def test_without_a_valid_key_nothing_is_replayed(app: FastAPI, api: httpx2.AsyncClient, place: Path) -> None:
    await api.post("/v1/jobs", json=request_for(place), headers=named())

    async with client_of(app, None) as nobody:
        answer = await nobody.post("/v1/jobs", json=request_for(place), headers=named())

    assert_problem(answer, 401, Code.UNAUTHORIZED)


async def _is_claimed(database: asyncpg.Connection) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM idempotency_keys"))
