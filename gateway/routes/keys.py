"""API keys: made and shown once, listed, rotated, revoked. For administrators."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request

from gateway.admin_schemas import KeyIn, KeyOut, KeysOut, NewKeyOut, RotateIn
from gateway.auth import Admin
from gateway.credentials import fresh_key
from gateway.openapi import problems
from gateway.problems import ApiError, Code
from gateway.services import services_of
from shared.db import api_keys, tenants
from shared.db.api_keys import Key, NewKey
from shared.db.session import Connection, transaction
from shared.db.tenants import Tenant

routes = APIRouter(prefix="/v1/admin/keys", tags=["admin"])
KeyId = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{8}$", description="The eight characters behind pxc_")]

log = structlog.get_logger("gateway")


@routes.get("", operation_id="listKeys", responses=problems(Code.NOT_FOUND))
async def list_keys(
    caller: Admin,
    request: Request,
    tenant: Annotated[str | None, Query(max_length=100, description="Only those of the tenant of this name")] = None,
) -> KeysOut:
    """Keys, without their secrets."""
    async with transaction(services_of(request).resources.engine) as connection:
        owner = None if tenant is None else (await _tenant(connection, tenant)).id
        found = await api_keys.every(connection, owner)
    return KeysOut(data=[KeyOut(**_fields(key)) for key in found])


@routes.post("", operation_id="createKey", status_code=201, responses=problems(Code.NOT_FOUND))
async def create_key(asked: KeyIn, caller: Admin, request: Request) -> NewKeyOut:
    """Makes a key. This answer is the only one that shows it."""
    key, credential = fresh_key()
    async with transaction(services_of(request).resources.engine) as connection:
        new = NewKey(
            id=credential.id,
            secret_hash=credential.secret_hash,
            tenant_id=(await _tenant(connection, asked.tenant)).id,
            name=asked.name,
            scopes=asked.scopes,
            expires_at=None if asked.days is None else datetime.now(UTC) + timedelta(days=asked.days),
        )
        await api_keys.add(connection, new)
        made = await _key(connection, credential.id)
    log.info("key_created", made=made.id, scopes=asked.scopes, key=caller.key_id)
    return _shown_once(key, made)


@routes.post(
    "/{key_id}/rotate",
    operation_id="rotateKey",
    status_code=201,
    responses=problems(Code.NOT_FOUND, Code.KEY_NOT_VALID),
)
async def rotate_key(key_id: KeyId, asked: RotateIn, caller: Admin, request: Request) -> NewKeyOut:
    """Makes a key that takes another's place, with its rights; the old one ends after the overlap."""
    key, credential = fresh_key()
    overlap = timedelta(hours=asked.overlap_hours)
    async with transaction(services_of(request).resources.engine) as connection:
        await _key(connection, key_id)
        made = await api_keys.rotate(
            connection, key_id, new_id=credential.id, secret_hash=credential.secret_hash, overlap=overlap
        )
    if made is None:
        raise ApiError(Code.KEY_NOT_VALID, "the key is revoked, expired or replaced already; make a new one")
    log.info("key_rotated", old=key_id, made=made.id, key=caller.key_id)
    return _shown_once(key, made)


@routes.delete("/{key_id}", operation_id="revokeKey", responses=problems(Code.NOT_FOUND))
async def revoke_key(key_id: KeyId, caller: Admin, request: Request) -> KeyOut:
    """Makes a key useless; gateways notice within seconds. May be repeated."""
    async with transaction(services_of(request).resources.engine) as connection:
        await api_keys.revoke(connection, key_id)
        revoked = await _key(connection, key_id)
    log.info("key_revoked", revoked=key_id, key=caller.key_id)
    return KeyOut(**_fields(revoked))


async def _tenant(connection: Connection, name: str) -> Tenant:
    found = await tenants.named(connection, name)
    if found is None:
        raise ApiError(Code.NOT_FOUND, "there is no tenant of that name; make it first")
    return found


async def _key(connection: Connection, key_id: str) -> Key:
    found = await api_keys.get(connection, key_id)
    if found is None:
        raise ApiError(Code.NOT_FOUND, "there is no key of that id; look at the list of them")
    return found


def _shown_once(key: str, made: Key) -> NewKeyOut:
    return NewKeyOut(**_fields(made), key=key)


def _fields(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant.name,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "is_valid": key.is_valid,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaced_by": key.replaced_by,
    }
