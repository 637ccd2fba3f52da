"""How often a tenant may ask, counted together by all copies of the gateway."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from gateway.app import create_app
from gateway.limits import RateLimiter
from gateway.problems import ApiError, Code
from gateway.settings import GatewaySettings
from shared.cache import open_redis
from tests.integration.gateway.conftest import MakeKey, client_of
from tests.integration.gateway.test_gateway_access import assert_problem
from tests.servers import free_port


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"requests_a_minute": 5})


async def test_every_answer_tells_what_is_left_and_the_last_one_when_to_go_on(api: httpx2.AsyncClient) -> None:
    answers = [await api.get("/v1/me") for _ in range(7)]

    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=5;w=60'
    assert answers[0].headers["ratelimit"].startswith('"requests";r=4;t=')
    assert_problem(answers[6], 429, Code.RATE_LIMITED)
    assert 0 < int(answers[6].headers["retry-after"]) <= 60


async def test_two_copies_count_together(app: FastAPI, settings: GatewaySettings, make_key: MakeKey) -> None:
    key, second = await make_key(), create_app(settings)
    async with second.router.lifespan_context(second), client_of(app, key) as one, client_of(second, key) as other:
        answers = [await client.get("/v1/me") for client in (one, other) * 4]

    assert 429 in {answer.status_code for answer in answers[5:]}
    assert {answer.status_code for answer in answers[:5]} == {200}


async def test_one_tenants_haste_does_not_hold_up_another(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    for _ in range(9):
        await api.get("/v1/me")

    assert (await stranger.get("/v1/me")).status_code == 200


async def test_without_redis_nobody_is_limited(app: FastAPI, make_key: MakeKey, settings: GatewaySettings) -> None:
    away = create_app(settings.model_copy(update={"redis_url": _nowhere()}))
    async with away.router.lifespan_context(away), client_of(away, await make_key()) as client:
        answers = [await client.get("/v1/me") for _ in range(9)]

    assert {answer.status_code for answer in answers} == {200}
    assert not any("ratelimit" in answer.headers for answer in answers)


async def test_the_window_slides_and_refusals_do_not_count(redis: Redis) -> None:
    now, tenant = 6_000.0, uuid4()
    limiter = RateLimiter(redis, limit=10, now=lambda: now)
    for _ in range(10):
        await limiter.count(tenant)
    for _ in range(20):
        with pytest.raises(ApiError):
            await limiter.count(tenant)

    now = 6_060.0 + 30  # half of the minute before lies within the last 60 s
    rate = await limiter.count(tenant)

    assert rate is not None
    assert (rate.left, rate.reset_seconds) == (4, 30)


@pytest.fixture
async def redis(settings: GatewaySettings) -> AsyncIterator[Redis]:
    client = open_redis(settings.redis_url)
    yield client
    await client.aclose()


def _nowhere() -> SecretStr:
    return SecretStr(f"redis://127.0.0.1:{free_port()}/0")
