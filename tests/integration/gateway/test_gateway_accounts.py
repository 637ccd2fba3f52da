"""Tenants and their keys by the gateway: made, changed, shut out, rotated, revoked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from gateway.credentials import Scope
from tests.integration.gateway.conftest import MakeKey, client_of

TENANTS, KEYS = "/v1/admin/tenants", "/v1/admin/keys"
NOBODY = "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11"
Enter = Callable[[str], Awaitable[int]]


@pytest.fixture
async def admin(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, await make_key("operator", scopes=(Scope.ADMIN,))) as client:
        yield client


@pytest.fixture
def enter(app: FastAPI) -> Enter:
    """The status that a key gets."""

    async def ask(key: str) -> int:
        async with client_of(app, key) as client:
            return (await client.get("/v1/me")).status_code

    return ask


async def made(admin: httpx2.AsyncClient, name: str = "cats", **more: Any) -> dict[str, Any]:
    answer = await admin.post(TENANTS, json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    tenant: dict[str, Any] = answer.json()
    return tenant


async def key_of(admin: httpx2.AsyncClient, tenant: str, **more: Any) -> dict[str, Any]:
    answer = await admin.post(KEYS, json={"tenant": tenant, **more})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    key: dict[str, Any] = answer.json()
    return key


async def test_a_tenant_is_made_changed_and_listed(admin: httpx2.AsyncClient) -> None:
    tenant = await made(admin, plan="enterprise", quotas={"open_jobs": 5})

    changed = await admin.patch(f"{TENANTS}/{tenant['id']}", json={"plan": "free", "quotas": {"rows_a_day": None}})
    listed = {each["name"]: each for each in (await admin.get(TENANTS)).json()["data"]}
    shown = (await admin.get(f"{TENANTS}/{tenant['id']}")).json()

    assert (tenant["plan"], tenant["tier"], tenant["quotas"]) == ("enterprise", "new", {"open_jobs": 5})
    assert tenant["usage"] == {"open_jobs": 0, "rows_a_day": 0, "bytes_a_day": 0}
    assert (changed.json()["plan"], changed.json()["quotas"]) == ("free", {"rows_a_day": None})
    assert shown == changed.json()
    assert set(listed) == {"operator", "cats"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "operator"}, 409, "name_taken"),
        ({"name": " "}, 422, "invalid_request"),
        ({"name": "x\u0007"}, 422, "invalid_request"),
        ({"name": "x", "plan": "new"}, 422, "invalid_request"),
        ({"name": "x", "quotas": {"jobs": 1}}, 422, "invalid_request"),
        ({"name": "x", "quotas": {"open_jobs": -1}}, 422, "invalid_request"),
        ({"name": "x", "id": NOBODY}, 422, "invalid_request"),
    ],
)
async def test_a_tenant_that_cannot_be_is_refused(
    admin: httpx2.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await admin.post(TENANTS, json=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_what_is_not_there_is_not_found(admin: httpx2.AsyncClient) -> None:
    for answer in (
        await admin.get(f"{TENANTS}/{NOBODY}"),
        await admin.patch(f"{TENANTS}/{NOBODY}", json={"suspended": True}),
        await admin.get(KEYS, params={"tenant": "nobody"}),
        await admin.post(KEYS, json={"tenant": "nobody"}),
        await admin.post(f"{KEYS}/a1b2c3d4/rotate", json={}),
        await admin.delete(f"{KEYS}/a1b2c3d4"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_key_is_shown_once_and_opens_the_door(admin: httpx2.AsyncClient, enter: Enter) -> None:
    await made(admin)

    key = await key_of(admin, "cats", name="ci", scopes=["jobs:read"], days=30)
    (listed,) = (await admin.get(KEYS, params={"tenant": "cats"})).json()["data"]

    assert await enter(key["key"]) == 200
    assert (listed["id"], listed["scopes"], listed["is_valid"]) == (key["id"], ["jobs:read"], True)
    assert listed["expires_at"] is not None
    assert "key" not in listed
    assert "secret_hash" not in listed


async def test_a_rotated_key_is_followed_by_one_with_the_same_rights(admin: httpx2.AsyncClient, enter: Enter) -> None:
    await made(admin)
    old = await key_of(admin, "cats", scopes=["jobs:read"])

    new = (await admin.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_hours": 1})).json()
    again = await admin.post(f"{KEYS}/{old['id']}/rotate", json={})

    assert new["scopes"] == ["jobs:read"]
    assert [await enter(each["key"]) for each in (old, new)] == [200, 200]
    assert (again.status_code, again.json()["code"]) == (409, "key_not_valid")
    by_id = {key["id"]: key for key in (await admin.get(KEYS)).json()["data"]}
    assert by_id[old["id"]]["replaced_by"] == new["id"]
    assert by_id[old["id"]]["expires_at"] is not None


async def test_a_revoked_key_is_useless(admin: httpx2.AsyncClient, enter: Enter) -> None:
    await made(admin)
    key = await key_of(admin, "cats")

    for _ in range(2):
        revoked = await admin.delete(f"{KEYS}/{key['id']}")

    assert revoked.json()["is_valid"] is False
    assert await enter(key["key"]) == 401


async def test_a_suspended_tenant_is_shut_out_until_it_is_let_in_again(admin: httpx2.AsyncClient, enter: Enter) -> None:
    tenant = await made(admin)
    suspended = (await admin.patch(f"{TENANTS}/{tenant['id']}", json={"suspended": True})).json()
    key = await key_of(admin, "cats")

    assert suspended["suspended_at"] is not None
    assert await enter(key["key"]) == 403
    await admin.patch(f"{TENANTS}/{tenant['id']}", json={"suspended": False})
    assert await enter(key["key"]) == 200
