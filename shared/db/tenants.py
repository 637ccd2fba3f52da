"""Tenants and their API keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import Tier


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key and whose it is. The secret itself is kept nowhere."""

    id: str
    name: str
    tenant_id: UUID
    tenant: str
    tier: Tier  #: as agreed; a new tenant's head start is the scheduler's business
    secret_hash: bytes
    scopes: frozenset[str]
    is_valid: bool  #: neither revoked nor expired, by the database's clock
    created_at: datetime
    last_used_at: datetime | None


_KEY = """
    SELECT api_keys.id, api_keys.name, tenant_id, tenants.name AS tenant, plan AS tier, secret_hash, scopes,
           revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS is_valid,
           api_keys.created_at, last_used_at
    FROM api_keys JOIN tenants ON tenants.id = tenant_id"""


async def key(connection: AsyncConnection, key_id: str) -> Key | None:
    """The key of that id, valid or not; None for one that never was."""
    found = (await connection.execute(text(f"{_KEY} WHERE api_keys.id = :id"), {"id": key_id})).one_or_none()
    return None if found is None else _key(found)


async def note_use(connection: AsyncConnection, key_id: str) -> None:
    """Remembers that the key was used; written at most once a minute."""
    await connection.execute(
        text("""
            UPDATE api_keys SET last_used_at = clock_timestamp()
            WHERE id = :id AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')"""),
        {"id": key_id},
    )


async def keys(connection: AsyncConnection) -> list[Key]:
    """All keys, by tenant and age."""
    found = await connection.execute(text(f"{_KEY} ORDER BY tenants.name, api_keys.created_at, api_keys.id"))
    return [_key(row) for row in found]


async def ensure_tenant(connection: AsyncConnection, name: str, tier: Tier) -> UUID:
    """The tenant of that name, made if it is missing; an existing one keeps its tier."""
    await connection.execute(
        text("INSERT INTO tenants (name, plan) VALUES (:name, :tier) ON CONFLICT (name) DO NOTHING"),
        {"name": name, "tier": tier},
    )
    found: UUID = await connection.scalar(text("SELECT id FROM tenants WHERE name = :name"), {"name": name})
    return found


async def is_alone(connection: AsyncConnection) -> bool:
    """Whether there is one tenant at most."""
    found = await connection.execute(text("SELECT id FROM tenants LIMIT 2"))
    return len(found.all()) < 2


async def add_key(
    connection: AsyncConnection, *, tenant_id: UUID, key_id: str, secret_hash: bytes, name: str, scopes: Sequence[str]
) -> None:
    """Stores a new key. The id must be fresh."""
    await connection.execute(
        text("""
            INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes)
            VALUES (:id, :tenant, :name, :hash, :scopes)"""),
        {"id": key_id, "tenant": tenant_id, "name": name, "hash": secret_hash, "scopes": list(scopes)},
    )


async def revoke_key(connection: AsyncConnection, key_id: str) -> bool:
    """Makes a key useless, at once. False when there is no such key; repeating it is harmless."""
    revoked = await connection.execute(
        text("UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = :id"), {"id": key_id}
    )
    return revoked.rowcount > 0


def _key(row: Row[Any]) -> Key:
    columns = row._asdict()
    return Key(**{**columns, "tier": Tier(columns["tier"]), "scopes": frozenset(columns["scopes"])})
