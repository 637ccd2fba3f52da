"""Who may do what, for every operation of the OpenAPI document: one without a case here fails.

Each is tried without a key, with a bad, expired, revoked and suspended one, with one that lacks the scope, and with
another tenant's, whose ids stand in path, query and body. Refused means: the right problem, nothing of ours in it, and
nothing left behind in the database.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.credentials import Scope, new_key
from gateway.problems import Code
from gateway.settings import GatewaySettings
from tests.contract.test_openapi import OPEN, operations
from tests.integration.gateway.conftest import MakeKey, client_of, request_for
from tests.integration.gateway.test_gateway_access import assert_problem

DOCUMENT = create_app(GatewaySettings()).openapi()
OPERATIONS = {
    operation["operationId"]: (method, path)
    for method, path, operation in operations(DOCUMENT)
    if operation["operationId"] not in OPEN
}
READ, WRITE, ADMIN = Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.ADMIN


@dataclass(frozen=True)
class Case:
    """How an operation is asked well, and what a stranger gets who names ids of ours."""

    scope: Scope
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: None: no id of a tenant's can be named.
    to_stranger: int | None = None


#: What stands in a path; "JOB", "MANIFEST" and "CHECK" stand for ids of ours, "PLACE" for a folder no job has taken.
PATH = {
    "job_id": "JOB",
    "webhook_id": "WEBHOOK",
    "delivery_id": "DELIVERY",
    "manifest_id": "MANIFEST",
    "check_id": "CHECK",
    "upload_id": "UPLOAD",
    "takedown_id": "1",
    "chunk_id": "1",
    "poison_id": "1",
    "name": "tidy_spool",
    "stage": "download",
    "tenant_id": "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11",
    "key_id": "a1b2c3d4",
    "row": "0",
}
CASES: dict[str, Case] = {
    "submitJob": Case(
        WRITE, json={"source": {"manifest_id": "MANIFEST"}, "destination": {"url": "PLACE"}}, to_stranger=422
    ),
    "listJobs": Case(READ),
    "getJob": Case(READ, to_stranger=404),
    "cancelJob": Case(WRITE, to_stranger=404),
    "pauseJob": Case(WRITE, to_stranger=404),
    "resumeJob": Case(WRITE, to_stranger=404),
    "appendToJob": Case(WRITE, json={"source": {"manifest_id": "MANIFEST"}}, to_stranger=404),
    "retryJob": Case(WRITE, json={}, to_stranger=404),
    "refreshJob": Case(WRITE, json={}, to_stranger=404),
    "cloneJob": Case(WRITE, json={"destination": {"url": "PLACE"}}, to_stranger=404),
    "deleteJob": Case(WRITE, to_stranger=404),
    "listImages": Case(READ, to_stranger=404),
    "listObjects": Case(READ, to_stranger=404),
    "getStatistics": Case(READ, to_stranger=404),
    "getThumbnail": Case(READ, to_stranger=404),
    "streamJob": Case(READ, to_stranger=404),
    "uploadManifest": Case(WRITE, params={"filename": "urls.txt"}, content=b"https://example.com/a.jpg"),
    "beginUpload": Case(WRITE, json={"filename": "urls.txt"}),
    "getUpload": Case(READ, to_stranger=404),
    "sendPart": Case(WRITE, content=b"https", headers={"Upload-Offset": "0"}, to_stranger=404),
    "completeUpload": Case(WRITE, json={}, to_stranger=404),
    "abandonUpload": Case(WRITE, to_stranger=404),
    "checkManifest": Case(WRITE, json={}, to_stranger=404),
    "getManifestCheck": Case(READ, to_stranger=404),
    "getMe": Case(READ),
    "createWebhook": Case(WRITE, json={"url": "https://hooks.pixcrawler.org/jobs"}),
    "listWebhooks": Case(READ),
    "getWebhook": Case(READ, to_stranger=404),
    "rotateWebhookSecret": Case(WRITE, json={}, to_stranger=404),
    "enableWebhook": Case(WRITE, to_stranger=404),
    "testWebhook": Case(WRITE, to_stranger=404),
    "listDeliveries": Case(READ, to_stranger=404),
    "redeliver": Case(WRITE, to_stranger=404),
    "deleteWebhook": Case(WRITE, to_stranger=404),
    "takeDown": Case(ADMIN, json={"kind": "host", "value": "example.com"}),
    "listTakedowns": Case(ADMIN),
    "liftTakedown": Case(ADMIN),
    "listFailedChunks": Case(ADMIN, params={"job": "JOB"}),
    "getFailedChunk": Case(ADMIN),
    "redriveChunks": Case(ADMIN, json={"job": "JOB"}),
    "dropChunks": Case(ADMIN, json={"job": "JOB"}),
    "listPoisonMessages": Case(ADMIN),
    "dropPoisonMessage": Case(ADMIN),
    "listCalendar": Case(ADMIN),
    "addCalendarEntry": Case(ADMIN, json={"job": "JOB", "every_seconds": 3600}),
    "removeCalendarEntry": Case(ADMIN),
    "pauseCalendarEntry": Case(ADMIN),
    "resumeCalendarEntry": Case(ADMIN),
    "runCalendarEntry": Case(ADMIN),
    "listStages": Case(ADMIN),
    "pauseStage": Case(ADMIN),
    "resumeStage": Case(ADMIN),
    "listSlots": Case(ADMIN),
    "listTenants": Case(ADMIN),
    "createTenant": Case(ADMIN, json={"name": "cats", "plan": "enterprise"}),
    "getTenant": Case(ADMIN),
    "changeTenant": Case(ADMIN, json={"plan": "enterprise"}),
    "listKeys": Case(ADMIN),
    "createKey": Case(ADMIN, json={"tenant": "ours", "scopes": ["admin"]}),
    "rotateKey": Case(ADMIN, json={}),
    "revokeKey": Case(ADMIN),
}


@dataclass(frozen=True)
class Ours:
    """What a tenant has made, for others to try."""

    database: asyncpg.Connection
    words: Mapping[str, str]

    async def asked(self, client: httpx2.AsyncClient, name: str) -> httpx2.Response:
        """The operation, as its case asks it."""
        (method, path), case = OPERATIONS[name], CASES[name]
        body = None if case.json is None else self._filled(json.dumps(case.json))
        return await client.request(
            method.upper(),
            self._filled(path.format_map(PATH)),
            params={key: self._filled(value) for key, value in case.params.items()},
            content=case.content if body is None else body.encode(),
            headers={**case.headers, **({} if body is None else {"Content-Type": "application/json"})},
        )

    async def left(self) -> dict[str, str]:
        """A digest of every table, but for when keys were used."""
        tables = await self.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            name: await self.database.fetchval(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {name} t")
            for (name,) in tables
            if name != "api_keys"
        }

    def _filled(self, text: str) -> str:
        for word, meant in self.words.items():
            text = text.replace(word, meant)
        return text


@pytest.fixture
async def ours(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path) -> Ours:
    job = await api.post("/v1/jobs", json=request_for(place))
    manifest = await api.post("/v1/manifests", params={"filename": "a.txt"}, content=b"https://example.com/a.jpg")
    webhook = await api.post("/v1/webhooks", json={"url": "https://hooks.pixcrawler.org/jobs"})
    delivery = await api.post(f"/v1/webhooks/{webhook.json()['id']}/test")
    check = await api.post(f"/v1/manifests/{manifest.json()['id']}/check", json={})
    upload = await api.post("/v1/uploads", json={"filename": "a.txt"})
    words = {
        "UPLOAD": upload.json()["id"],
        "JOB": job.json()["id"],
        "MANIFEST": manifest.json()["id"],
        "WEBHOOK": webhook.json()["id"],
        "DELIVERY": delivery.json()["id"],
        "CHECK": check.json()["id"],
        "PLACE": str(place.with_name("other")),
    }
    return Ours(database, words)


def test_every_operation_has_a_case() -> None:
    placed = set(re.findall(r"{(\w+)}", " ".join(path for _, path in OPERATIONS.values())))

    assert set(CASES) == set(OPERATIONS), "give each operation a case: how it is asked, and what a stranger gets"
    assert placed <= set(PATH), "say what stands in the path"


@pytest.mark.parametrize("kind", ["none", "nonsense", "mistyped", "unknown", "forged", "expired", "revoked"])
async def test_no_operation_answers_without_a_good_key(app: FastAPI, make_key: MakeKey, ours: Ours, kind: str) -> None:
    key = await _bad_key(kind, make_key, ours.database)
    before = await ours.left()

    async with client_of(app, key) as client:
        answers = {name: await ours.asked(client, name) for name in OPERATIONS}

    for answer in answers.values():
        assert_problem(answer, 401, Code.UNAUTHORIZED)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert await ours.left() == before


async def _bad_key(kind: str, make_key: MakeKey, database: asyncpg.Connection) -> str | None:
    key = await make_key(scopes=tuple(Scope))
    key_id = key.split("_")[1]
    match kind:
        case "none":
            return None
        case "nonsense":
            return "nonsense"
        case "mistyped":
            return key[:-1] + ("0" if key[-1] != "0" else "1")
        case "unknown":
            return new_key()
        case "forged":  # a valid id with a secret of its own
            await database.execute("UPDATE api_keys SET secret_hash = sha256('other') WHERE id = $1", key_id)
        case "expired":
            await database.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", key_id)
        case "revoked":
            await database.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", key_id)
    return key


async def test_an_operation_needs_its_scope(app: FastAPI, make_key: MakeKey, ours: Ours) -> None:
    poor = {
        READ: await make_key(scopes=(WRITE,)),
        WRITE: await make_key(scopes=(READ,)),
        ADMIN: await make_key(scopes=(READ, WRITE)),
    }
    before = await ours.left()

    for name, case in CASES.items():
        async with client_of(app, poor[case.scope]) as client:
            assert_problem(await ours.asked(client, name), 403, Code.FORBIDDEN)

    assert await ours.left() == before


async def test_a_suspended_account_may_do_nothing(app: FastAPI, make_key: MakeKey, ours: Ours) -> None:
    key = await make_key("shut out", scopes=tuple(Scope))
    await ours.database.execute("UPDATE tenants SET suspended_at = now() WHERE name = 'shut out'")
    before = await ours.left()

    async with client_of(app, key) as client:
        for name in OPERATIONS:
            assert_problem(await ours.asked(client, name), 403, Code.TENANT_SUSPENDED)

    assert await ours.left() == before


async def test_what_is_anothers_looks_like_what_never_was(stranger: httpx2.AsyncClient, ours: Ours) -> None:
    named = {name: case.to_stranger for name, case in CASES.items() if case.to_stranger is not None}
    ids = {name: str(uuid4()) for name in ("JOB", "MANIFEST", "CHECK", "UPLOAD", "WEBHOOK", "DELIVERY")}
    never = Ours(ours.database, {**ours.words, **ids})
    before = await ours.left()

    for name, status in named.items():
        foreign, unknown = await ours.asked(stranger, name), await never.asked(stranger, name)

        assert (foreign.status_code, name) == (status, name)
        assert {**foreign.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
        assert not any(word in foreign.text for word in ours.words.values())

    assert await ours.left() == before


async def test_a_stranger_sees_nothing_of_ours_where_nothing_is_named(stranger: httpx2.AsyncClient, ours: Ours) -> None:
    for name, case in CASES.items():
        if case.to_stranger is None and case.scope is not ADMIN:
            answer = await ours.asked(stranger, name)

            assert answer.is_success, name
            assert ours.words["JOB"] not in answer.text


async def test_no_operation_reads_a_body_of_two_mebibytes(app: FastAPI, make_key: MakeKey, ours: Ours) -> None:
    key, before = await make_key(scopes=tuple(Scope)), await ours.left()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "one"}

    async with client_of(app, key) as client:
        for name, (method, path) in OPERATIONS.items():
            if method == "post" and name != "uploadManifest":  # that one is for long lists
                body = b'{"note": "' + b"x" * 2 * 1024**2 + b'"}'
                answer = await client.post(path.format_map(PATH), content=body, headers=headers)

                assert_problem(answer, 413, Code.BODY_TOO_LARGE)

    assert await ours.left() == before
