"""Quotas: used-up ones refuse another job, clearly and whoever asks at the same time."""

import asyncio
from pathlib import Path

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.problems import Code
from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import Effects, MakeKey, client_of, request_for
from tests.integration.gateway.test_gateway_access import assert_problem


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    by_tier = {"new": {"open_jobs": 2, "rows_a_day": 2}, "free": {"rows_a_day": None}}
    return GatewaySettings.model_validate({**settings.model_dump(), "quotas": by_tier})


async def test_of_requests_that_come_at_once_only_as_many_pass_as_there_is_room_for(
    api: httpx2.AsyncClient, effects: Effects, place: Path
) -> None:
    asked = [api.post("/v1/jobs", json=request_for(place.with_name(str(number)))) for number in range(6)]

    answers = await asyncio.gather(*asked)

    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, Code.QUOTA_EXCEEDED)
    assert refused.headers["retry-after"] == "60"
    assert "2 of 2" in refused.json()["detail"]
    assert (await effects.seen())["jobs"] == 2


async def test_a_job_that_was_accepted_is_still_found_when_the_quota_is_used_up(
    api: httpx2.AsyncClient, place: Path
) -> None:
    for name in ("cats", "dogs"):
        await api.post("/v1/jobs", json=request_for(place.with_name(name)))

    again = await api.post("/v1/jobs", json=request_for(place.with_name("cats")))

    assert again.status_code == 200


async def test_the_rows_of_a_day_are_back_the_next_day(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    await api.post("/v1/jobs", json=request_for(place))
    await database.execute("UPDATE jobs SET planned_rows = 2, state = 'completed'")
    used = (await api.get("/v1/me")).json()["quotas"]["rows_a_day"]
    refused = await api.post("/v1/jobs", json=request_for(place.with_name("dogs")))
    await database.execute("UPDATE jobs SET created_at = created_at - interval '1 day'")

    accepted = await api.post("/v1/jobs", json=request_for(place.with_name("dogs")))

    assert used == {"limit": 2, "used": 2}
    assert_problem(refused, 429, Code.QUOTA_EXCEEDED)
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert accepted.status_code == 202


async def test_a_list_that_no_day_has_room_for_is_refused_for_good(
    api: httpx2.AsyncClient, effects: Effects, place: Path
) -> None:
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for(place, "https://a/1", "https://a/2", "https://a/3"))

    assert_problem(answer, 403, Code.OVER_QUOTA)
    assert await effects.seen() == before


async def test_what_was_agreed_with_a_tenant_goes_before_its_tier(
    make_key: MakeKey, app: FastAPI, database: asyncpg.Connection, place: Path
) -> None:
    key = await make_key()
    await database.execute("""UPDATE tenants SET quotas = '{"open_jobs": 0}'""")

    async with client_of(app, key) as api:
        shown = await api.get("/v1/me")
        answer = await api.post("/v1/jobs", json=request_for(place))

    assert shown.json()["quotas"]["open_jobs"] == {"limit": 0, "used": 0}
    assert_problem(answer, 429, Code.QUOTA_EXCEEDED)
