"""The second wall between tenants: row-level security, with every statement's own condition taken away."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event, text

from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.db import tenancy
from shared.db.session import transaction
from tests.integration.gateway.conftest import request_for
from tests.privileges import database_url_for, with_database_roles

_ASKS_WHOSE = re.compile(r"(?:\w+\.)?tenant_id = (\$\d+)(?:::UUID)?")
WALLED = ("jobs", "datasets", "uploads", "chunks", "idempotency_keys", "webhooks", "webhook_deliveries")


@pytest.fixture
async def app(settings: GatewaySettings, postgres_admin_url: str, database_url: str) -> AsyncIterator[FastAPI]:
    """A gateway with its own role in the database."""
    async with with_database_roles(postgres_admin_url, database_url):
        own = SecretStr(database_url_for("gateway", database_url))
        made = create_app(settings.model_copy(update={"database_url": own, "store_roots": ("*",)}))
        async with made.router.lifespan_context(made):
            yield made


@pytest.fixture
def forgotten(app: FastAPI) -> Iterator[list[str]]:
    """Takes the condition on the tenant out of every statement; which those were."""
    changed: list[str] = []

    def forget(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: Any) -> tuple[str, Any]:
        careless = _ASKS_WHOSE.sub(r"\1::uuid IS NOT NULL", statement)
        if careless != statement:
            changed.append(careless)
        return careless, parameters

    engine = app.state.services.resources.engine.sync_engine
    event.listen(engine, "before_cursor_execute", forget, retval=True)
    yield changed
    event.remove(engine, "before_cursor_execute", forget)


async def test_a_forgotten_condition_shows_a_stranger_nothing(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, forgotten: list[str], place: Path
) -> None:
    ours = (await api.post("/v1/jobs", json=request_for(place), headers={"Idempotency-Key": "one"})).json()["id"]
    uploaded = await api.post("/v1/manifests", params={"filename": "a.txt"}, content=b"https://example.com/a.jpg")
    theirs = await stranger.post("/v1/jobs", json=request_for(place.with_name("dogs")))
    webhook = await _webhook(api)

    found = {
        path: (await stranger.request(method, f"/v1/jobs/{ours}{path}")).status_code
        for method, path in (("GET", ""), ("GET", "/images"), ("GET", "/events"), ("POST", "/cancel"))
    }
    listed = (await stranger.get("/v1/jobs")).json()["data"]
    borrowed = await stranger.post(
        "/v1/jobs",
        json={
            "source": {"manifest_id": uploaded.json()["id"]},
            "destination": {"url": str(place.with_name("eels"))},
        },
    )
    me = (await stranger.get("/v1/me")).json()
    told = [
        await stranger.get(f"/v1/webhooks/{webhook}"),
        await stranger.post(f"/v1/webhooks/{webhook}/rotate", json={}),
    ]
    hooks = (await stranger.get("/v1/webhooks")).json()["data"]

    assert len(forgotten) > 5
    assert set(found.values()) == {404}, found
    assert [job["id"] for job in listed] == [theirs.json()["id"]]
    assert borrowed.status_code == 422
    assert ([answer.status_code for answer in told], hooks) == ([404, 404], [])
    assert me["quotas"]["open_jobs"]["used"] == 1
    assert (await api.get(f"/v1/jobs/{ours}")).json()["state"] == "queued"


async def test_a_destination_of_a_stranger_is_taken_and_nothing_more_is_told(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    ours = (await api.post("/v1/jobs", json=request_for(place))).json()["id"]

    answer = await stranger.post("/v1/jobs", json=request_for(place))

    assert (answer.status_code, answer.json()["code"]) == (409, "destination_taken")
    assert ours not in answer.text


async def test_a_transaction_sees_the_rows_of_whom_it_works_for(
    app: FastAPI, api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    await api.post("/v1/jobs", json=request_for(place), headers={"Idempotency-Key": "one"})
    await api.post("/v1/manifests", params={"filename": "a.txt"}, content=b"https://example.com/a.jpg")
    await _webhook(api)
    await database.execute("""
        INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier, virtual_start,
            score) SELECT id, 0, 0, 1, '', 0, 0, 'new', 0, 0 FROM jobs""")
    tenant: UUID = await database.fetchval("SELECT tenant_id FROM jobs")

    tenancy.see_nobody()
    nobody = await _counts(app)
    tenancy.see_only(uuid4())
    other = await _counts(app)
    tenancy.see_only(tenant)
    own = await _counts(app)
    with tenancy.seeing_everyone():
        everyone = await _counts(app)

    assert nobody == other == dict.fromkeys(WALLED, 0)
    assert own == everyone == dict.fromkeys(WALLED, 1)


async def test_rows_cannot_be_given_to_another_tenant(app: FastAPI, database: asyncpg.Connection) -> None:
    ours, theirs = [
        await database.fetchval("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name) for name in ("a", "b")
    ]
    tenancy.see_only(ours)

    with pytest.raises(Exception, match="row-level security"):
        async with transaction(app.state.services.resources.engine) as connection:
            await connection.execute(
                text("INSERT INTO uploads (tenant_id, filename, key) VALUES (:tenant, '', '')"), {"tenant": theirs}
            )


async def test_every_table_of_tenants_has_the_wall(app: FastAPI, database: asyncpg.Connection) -> None:
    bare = await database.fetch("""
        SELECT DISTINCT table_name FROM information_schema.columns JOIN pg_class ON relname = table_name
        WHERE table_schema = 'public' AND column_name IN ('tenant_id', 'job_id', 'webhook_id') AND relkind = 'r'
          AND NOT relrowsecurity""")

    assert [row["table_name"] for row in bare] == ["api_keys"]


async def _webhook(api: httpx2.AsyncClient) -> str:
    """A webhook's id; a notice is owed to it."""
    made: str = (await api.post("/v1/webhooks", json={"url": "https://hooks.pixcrawler.org/"})).json()["id"]
    await api.post(f"/v1/webhooks/{made}/test")
    return made


async def _counts(app: FastAPI) -> dict[str, int]:
    async with transaction(app.state.services.resources.engine) as connection:
        return {table: await connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in WALLED}
