"""Takedowns by the gateway: who may, what is kept, what is shown."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from gateway.credentials import Scope
from shared.blocklist import Kind
from shared.db import blocked
from shared.db.session import open_engine, transaction
from shared.guard import Target, parsed
from tests.integration.gateway.conftest import MakeKey, client_of

TAKEDOWNS = "/v1/admin/takedowns"


@pytest.fixture
async def admin(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, await make_key(scopes=(Scope.ADMIN,))) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("GET", ""), ("DELETE", "/1")])
async def test_only_administrators_see_and_change_takedowns(api: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await api.request(method, TAKEDOWNS + path, json={"kind": "host", "value": "example.com"})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_takedown_is_kept_in_its_one_spelling_and_only_once(admin: httpx2.AsyncClient) -> None:
    first = await admin.post(TAKEDOWNS, json={"kind": "host", "value": "Bücher.Example.", "note": "ticket 7"})
    again = await admin.post(TAKEDOWNS, json={"kind": "host", "value": "xn--bcher-kva.example"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["value"], first.json()["note"]) == ("xn--bcher-kva.example", "ticket 7")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "sha256", "value": "abc"}, "/value"),
        ({"kind": "url", "value": "example.com"}, "/value"),
        ({"kind": "tenant", "value": "x"}, "/kind"),
        ({"kind": "host", "value": "a\0b"}, "/value"),
        ({"kind": "host", "value": "example.com", "more": 1}, "/more"),
    ],
)
async def test_a_wrong_takedown_is_refused_where_it_is_wrong(
    admin: httpx2.AsyncClient, body: dict[str, object], pointer: str
) -> None:
    answer = await admin.post(TAKEDOWNS, json=body)

    assert answer.status_code == 422
    assert [mistake["pointer"] for mistake in answer.json()["errors"]] == [pointer]
    assert (await admin.get(TAKEDOWNS)).json()["data"] == []


async def test_takedowns_are_listed_newest_first_page_by_page(admin: httpx2.AsyncClient) -> None:
    for number in range(3):
        await admin.post(TAKEDOWNS, json={"kind": "host", "value": f"{number}.example"})
    await admin.post(TAKEDOWNS, json={"kind": "phash", "value": "0" * 16})

    first = (await admin.get(TAKEDOWNS, params={"kind": "host", "limit": 2})).json()
    params = {"kind": "host", "limit": 2, "cursor": first["next_cursor"]}
    second = (await admin.get(TAKEDOWNS, params=params)).json()

    shown = [takedown["value"] for page in (first, second) for takedown in page["data"]]
    assert shown == ["2.example", "1.example", "0.example"]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert (await admin.get(TAKEDOWNS, params={"cursor": "nonsense"})).status_code == 422


async def test_a_purge_is_ordered_with_a_takedown_or_later_and_shown(admin: httpx2.AsyncClient) -> None:
    body = {"kind": "host", "value": "example.com"}
    plain = (await admin.post(TAKEDOWNS, json=body)).json()

    ordered = await admin.post(TAKEDOWNS, json={**body, "purge": True})
    again = await admin.post(TAKEDOWNS, json=body)
    listed = await admin.get(TAKEDOWNS)

    progress = {"chunks_left": 0, "images_removed": 0, "finished_at": None}
    assert plain["purge"] is None
    assert (ordered.status_code, ordered.json()) == (200, {**plain, "purge": progress})
    assert again.json() == ordered.json(), "to ask without it takes no purge back"
    assert listed.json()["data"] == [ordered.json()]


async def test_a_lifted_takedown_is_gone(admin: httpx2.AsyncClient) -> None:
    made = (await admin.post(TAKEDOWNS, json={"kind": "host", "value": "example.com"})).json()

    lifted = await admin.delete(f"{TAKEDOWNS}/{made['id']}")

    assert (lifted.status_code, lifted.json()) == (200, made)
    assert (await admin.delete(f"{TAKEDOWNS}/{made['id']}")).status_code == 404
    assert (await admin.get(TAKEDOWNS)).json()["data"] == []


async def test_workers_read_what_was_taken_down_and_lifted(admin: httpx2.AsyncClient, database_url: str) -> None:
    target = parsed("http://img.example.com/")
    assert isinstance(target, Target)
    engine = open_engine(SecretStr(database_url), connections=1)
    made = (await admin.post(TAKEDOWNS, json={"kind": "host", "value": "example.com"})).json()

    held = await blocked.live(engine).refresh()
    async with transaction(engine) as connection:
        await blocked.remove(connection, made["id"])
        await blocked.add(connection, kind=Kind.HOST, value="other.example", note="")
    later = await blocked.live(engine).refresh()

    assert (held.holds_target(target), later.holds_target(target)) == (True, False)
    await engine.dispose()
