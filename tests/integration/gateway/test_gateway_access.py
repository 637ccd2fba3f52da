"""Who may do what, and how refusals look."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.credentials import Scope
from gateway.problems import Code
from shared.quotas import Quota
from tests.integration.gateway.conftest import Effects, MakeKey, client_of, request_for


def assert_problem(answer: httpx2.Response, status: int, code: Code) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (status, code, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"] == f"urn:pixcrawler:problem:{code}"
    assert body["detail"]


async def test_a_suspended_account_is_told_so_until_it_is_let_in_again(
    api: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE tenants SET suspended_at = now()")
    shut_out = await api.get("/v1/me")
    await database.execute("UPDATE tenants SET suspended_at = NULL")

    let_in = await api.get("/v1/me")

    assert_problem(shut_out, 403, Code.TENANT_SUSPENDED)
    assert let_in.status_code == 200


async def test_a_tenant_lists_its_own_jobs_only(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    mine = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]
    theirs = (await stranger.post("/v1/jobs", json=request_for(place.with_name("dogs")))).json()["id"]

    listed = [(await client.get("/v1/jobs")).json()["data"] for client in (api, stranger)]

    assert [[job["id"] for job in jobs] for jobs in listed] == [[mine], [theirs]]


async def test_a_key_works_as_bearer_and_as_header_and_its_use_is_noted(
    app: FastAPI, make_key: MakeKey, database: asyncpg.Connection
) -> None:
    key = await make_key("ours", scopes=(Scope.ADMIN,))

    async with client_of(app, None) as client:
        answers = [
            await client.get("/v1/me", headers=headers)
            for headers in ({"Authorization": f"bearer {key}"}, {"X-API-Key": key})
        ]

    shown = {
        "tenant": "ours",
        "tier": "free",
        "tier_now": "new",
        "scopes": ["admin"],
        "quotas": {quota: {"limit": None, "used": 0} for quota in Quota},
    }
    assert [answer.json() for answer in answers] == [shown] * 2
    assert await database.fetchval("SELECT last_used_at > now() - interval '1 minute' FROM api_keys")


async def test_only_a_hash_of_the_secret_is_stored(make_key: MakeKey, database: asyncpg.Connection) -> None:
    key = await make_key()

    row = await database.fetchrow("SELECT * FROM api_keys")

    assert len(row["secret_hash"]) == 32
    assert key.split("_")[2] not in str(dict(row))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("OPTIONS", "/v1/jobs/6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11", "GET, DELETE"),
        ("GET", "/v1/admin/failed-chunks/redrive", "POST"),
        ("TRACE", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_known_is_answered_with_those_that_are(
    api: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)

    assert_problem(answer, 405, Code.METHOD_NOT_ALLOWED)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, Code.NOT_FOUND),
        ("GET", "/v1/jobs/", 404, Code.NOT_FOUND),
        ("DELETE", "/v1/jobs", 405, Code.METHOD_NOT_ALLOWED),
        ("GET", "/v1/jobs?limit=0", 422, Code.INVALID_REQUEST),
        ("GET", "/v1/jobs?state=sleeping", 422, Code.INVALID_REQUEST),
        ("GET", "/v1/jobs?cursor=nonsense", 422, Code.INVALID_REQUEST),
        ("GET", "/v1/jobs?cursor=WyIyMDI2LTAxLTAxIiwieCJd", 422, Code.INVALID_REQUEST),
        ("POST", "/v1/manifests", 422, Code.INVALID_REQUEST),
        ("POST", "/v1/manifests?filename=%00.csv", 422, Code.INVALID_REQUEST),
    ],
)
async def test_every_refusal_is_a_problem_document(
    api: httpx2.AsyncClient, method: str, path: str, status: int, code: Code
) -> None:
    answer = await api.request(method, path)

    assert_problem(answer, status, code)


SECRET = "SECRET-VALUE"
BAD_BODIES = {
    "no JSON": (b"{", 400, ""),
    "deep nesting": (b"[" * 10_000, 400, ""),
    "a number with 5,000 digits": (b'{"name": ' + b"9" * 5000 + b"}", 400, ""),
    "nothing": (b"{}", 422, "/source"),
    "an unknown field": (b'{"SECRET": "SECRET-VALUE"}', 422, "/SECRET"),
    "an unknown choice": ({"recipe": {"depth": SECRET}}, 422, "/recipe/depth"),
    "false for a number": ({"recipe": {"min_bytes": False}}, 422, "/recipe/min_bytes"),
    "text for a number": ({"recipe": {"attempts": "3"}}, 422, "/recipe/attempts"),
    "NaN": (b'{"recipe": {"max_aspect_ratio": NaN}}', 422, "/recipe/max_aspect_ratio"),
    "NUL in a name": ({"name": SECRET + "\0"}, 422, "/name"),
    "a lone surrogate in a row": (b'{"source": {"rows": [{"url": "\\ud800"}]}}', 422, "/source/rows/0/url"),
    "two sources": ({"source": {"rows": [{"url": "u"}], "reference": "s3://b/l.csv"}}, 422, "/source"),
    "no rows": ({"source": {"rows": []}}, 422, "/source/rows"),
    "a nested row": ({"source": {"rows": [{"url": {"a": SECRET}}]}}, 422, "/source/rows/0/url"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_pointed_at_and_never_echoed(api: httpx2.AsyncClient, effects: Effects, case: str) -> None:
    body, status, pointer = BAD_BODIES[case]
    content = body if isinstance(body, bytes) else json.dumps(body)
    before = await effects.seen()

    answer = await api.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})

    assert_problem(answer, status, Code.MALFORMED_REQUEST if status == 400 else Code.INVALID_REQUEST)
    assert SECRET not in answer.text
    assert not pointer or any(mistake["pointer"].startswith(pointer) for mistake in answer.json()["errors"])
    assert await effects.seen() == before


async def test_a_body_above_the_limit_is_refused_by_what_arrives(api: httpx2.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 4096

    answer = await api.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})

    assert_problem(answer, 413, Code.BODY_TOO_LARGE)


async def test_the_reference_is_read_without_a_key_and_may_load_nothing(app: FastAPI) -> None:
    async with client_of(app, None) as client:
        page = await client.get("/docs")

    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "submitJob" in page.text


async def test_a_request_id_is_kept_when_it_is_harmless(api: httpx2.AsyncClient) -> None:
    kept = await api.get("/livez", headers={"X-Request-ID": "my-request-0001"})
    replaced = await api.get("/livez", headers={"X-Request-ID": 'x"; forged: 1'})

    assert kept.headers["x-request-id"] == "my-request-0001"
    assert "forged" not in replaced.headers["x-request-id"]


async def test_trouble_of_the_database_is_worth_a_retry_and_shows_in_readiness(
    app: FastAPI, api: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    ready = await api.get("/readyz")
    await database.execute("UPDATE alembic_version SET version_num = 'older'")
    behind = await api.get("/readyz")
    services = app.state.services
    await services.resources.engine.dispose()
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')

    answer = await api.get("/v1/me")
    away = await api.get("/readyz")

    assert (ready.status_code, ready.json()) == (200, {"database": "ok"})
    assert (behind.status_code, away.status_code) == (503, 503)
    assert "older" in behind.json()["database"]
    assert_problem(answer, 503, Code.DATABASE_UNAVAILABLE)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_bug_of_ours_is_a_problem_without_details(
    app: FastAPI, api: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute("ALTER TABLE jobs RENAME TO lost")

    answer = await api.get("/v1/jobs")

    assert_problem(answer, 500, Code.INTERNAL)
    assert "jobs" not in answer.text
