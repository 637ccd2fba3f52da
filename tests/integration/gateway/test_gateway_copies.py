"""Two copies of the gateway behind a proxy that asks them in turn: nothing a client holds belongs to one of them."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.problems import Code
from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import MakeKey, request_for
from tests.integration.gateway.test_gateway_access import assert_problem


class InTurn(httpx2.AsyncBaseTransport):
    """The proxy: each request goes to the next copy."""

    def __init__(self, *copies: FastAPI) -> None:
        self._next = itertools.cycle([httpx2.ASGITransport(app=copy) for copy in copies])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await next(self._next).handle_async_request(request)


@pytest.fixture
async def proxied(app: FastAPI, settings: GatewaySettings, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    second = create_app(settings)
    headers = {"Authorization": f"Bearer {await make_key()}"}
    async with (
        second.router.lifespan_context(second),
        httpx2.AsyncClient(transport=InTurn(app, second), base_url="http://gateway", headers=headers) as client,
    ):
        yield client


async def test_a_client_may_talk_to_either_copy_at_every_step(
    proxied: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    uploaded = await proxied.post("/v1/manifests", params={"filename": "a.txt"}, content=b"https://example.com/a.jpg")
    asked = {"source": {"manifest_id": uploaded.json()["id"]}, "destination": {"url": str(place)}}
    first = await proxied.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "one"})
    again = await proxied.post("/v1/jobs", json=asked, headers={"Idempotency-Key": "one"})
    other = await proxied.post("/v1/jobs", json={}, headers={"Idempotency-Key": "one"})
    job = f"/v1/jobs/{first.json()['id']}"
    seen = await proxied.get(job)
    unchanged = await proxied.get(job, headers={"If-None-Match": seen.headers["etag"]})
    paused = await proxied.post(f"{job}/pause", headers={"If-Match": seen.headers["etag"]})
    stale = await proxied.post(f"{job}/cancel", headers={"If-Match": seen.headers["etag"]})

    assert (first.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.content == first.content
    assert_problem(other, 422, Code.IDEMPOTENCY_MISMATCH)
    assert unchanged.status_code == 304
    assert paused.json()["state"] == "paused"
    assert_problem(stale, 412, Code.PRECONDITION_FAILED)
    assert await database.fetchval("SELECT count(*) FROM jobs") == 1


async def test_a_page_goes_on_where_another_copy_ended(proxied: httpx2.AsyncClient, place: Path) -> None:
    for name in ("cats", "dogs", "eels"):
        await proxied.post("/v1/jobs", json=request_for(place.with_name(name), name=name))

    shown, page = [], "/v1/jobs?limit=1"
    while page:
        answer = await proxied.get(page)
        shown += [job["name"] for job in answer.json()["data"]]
        page = answer.links.get("next", {}).get("url", "")

    assert shown == ["eels", "dogs", "cats"]


async def test_a_stream_goes_on_at_another_copy_with_the_whole_job(
    proxied: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    made = (await proxied.post("/v1/jobs", json=request_for(place))).json()["id"]
    await database.execute("UPDATE jobs SET state = 'completed', finished_at = now()")

    streams = [await proxied.get(f"/v1/jobs/{made}/events", headers={"Last-Event-ID": "7"}) for _ in range(2)]

    for stream in streams:
        assert "event: done" in stream.text
        assert made in stream.text
