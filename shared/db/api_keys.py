"""API keys: ways in for a tenant. Made, looked up, rotated and revoked; the secret itself is kept nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import tenants
from shared.db.tenants import Tenant


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key and whose it is."""

    id: str
    name: str
    tenant: Tenant
    secret_hash: bytes
    scopes: frozenset[str]
    is_valid: bool  #: neither revoked nor expired, by the database's clock
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None  #: id of the key that takes its place


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a key is to be; its id must be fresh."""

    id: str
    secret_hash: bytes
    tenant_id: UUID
    name: str
    scopes: Sequence[str]
    expires_at: datetime | None = None  #: None: never


_KEY = f"""
    SELECT {tenants.COLUMNS}, api_keys.id, api_keys.name, secret_hash, scopes, api_keys.created_at, expires_at,
           revoked_at, last_used_at, replaced_by,
           revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS is_valid
    FROM api_keys JOIN tenants ON tenants.id = tenant_id"""


async def get(connection: AsyncConnection, key_id: str) -> Key | None:
    """The key of that id, valid or not; None for one that never was."""
    found = (await connection.execute(text(f"{_KEY} WHERE api_keys.id = :id"), {"id": key_id})).one_or_none()
    return None if found is None else _key(found)


async def every(connection: AsyncConnection, tenant_id: UUID | None = None) -> list[Key]:
    """All keys, or those of one tenant, by tenant and age."""
    found = await connection.execute(
        text(f"""
            {_KEY} WHERE CAST(:tenant AS uuid) IS NULL OR tenants.id = :tenant
            ORDER BY tenants.name, api_keys.created_at, api_keys.id"""),
        {"tenant": tenant_id},
    )
    return [_key(row) for row in found]


async def note_use(connection: AsyncConnection, key_id: str) -> None:
    """Remembers that the key was used; written at most once a minute."""
    await connection.execute(
        text("""
            UPDATE api_keys SET last_used_at = clock_timestamp()
            WHERE id = :id AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')"""),
        {"id": key_id},
    )


async def add(connection: AsyncConnection, new: NewKey) -> None:
    """Stores a new key."""
    await connection.execute(
        text("""
            INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, expires_at)
            VALUES (:id, :tenant, :name, :hash, :scopes, :expires_at)"""),
        {
            "id": new.id,
            "tenant": new.tenant_id,
            "name": new.name,
            "hash": new.secret_hash,
            "scopes": list(new.scopes),
            "expires_at": new.expires_at,
        },
    )


async def rotate(
    connection: AsyncConnection, old_id: str, *, new_id: str, secret_hash: bytes, overlap: timedelta
) -> Key | None:
    """A new key with the rights of a valid one, which ends after the overlap. None when there is no such valid key.

    The new one lasts as long as the old one was made to last. A key that was replaced before is not replaced again.
    """
    made = await connection.execute(
        text("""
            INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, expires_at)
            SELECT :new, tenant_id, name, :hash, scopes, clock_timestamp() + (expires_at - created_at) FROM api_keys
            WHERE id = :old AND replaced_by IS NULL AND revoked_at IS NULL
              AND (expires_at IS NULL OR expires_at > clock_timestamp())
            FOR UPDATE"""),
        {"old": old_id, "new": new_id, "hash": secret_hash},
    )
    if not made.rowcount:
        return None
    await connection.execute(
        text("""
            UPDATE api_keys SET replaced_by = :new, expires_at = least(expires_at, clock_timestamp() + :overlap)
            WHERE id = :old"""),
        {"old": old_id, "new": new_id, "overlap": overlap},
    )
    return await get(connection, new_id)


async def revoke(connection: AsyncConnection, key_id: str) -> bool:
    """Makes a key useless. False when there is no such key; repeating it is harmless."""
    revoked = await connection.execute(
        text("UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = :id"), {"id": key_id}
    )
    return revoked.rowcount > 0


def _key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        tenant=tenants.read(row),
        secret_hash=row.secret_hash,
        scopes=frozenset(row.scopes),
        is_valid=row.is_valid,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        replaced_by=row.replaced_by,
    )
