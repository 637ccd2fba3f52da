"""Where tenants want to be told of their jobs. What is owed to them: `deliveries.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import deliveries, tenants
from shared.notices import Notice

#: Of a tenant.
MOST_WEBHOOKS = 20


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where a tenant wants to be told, and of what."""

    id: UUID
    url: str
    events: Sequence[Notice]
    created_at: datetime
    old_secret_until: datetime | None
    disabled_at: datetime | None
    disabled_why: str


_WEBHOOK = """SELECT id, url, events, created_at, disabled_at, disabled_why,
    CASE WHEN old_secret_until > clock_timestamp() THEN old_secret_until END AS old_secret_until FROM webhooks"""


async def create(
    connection: AsyncConnection, tenant_id: UUID, *, url: str, events: Sequence[Notice], secret: str
) -> UUID | None:
    """Adds a webhook. None: the tenant has as many as it may."""
    await tenants.take_turns(connection, tenant_id)
    made: UUID | None = (
        await connection.execute(
            text("""
                INSERT INTO webhooks (tenant_id, url, events, secret)
                SELECT :tenant, :url, CAST(:events AS text[]), :secret
                WHERE (SELECT count(*) FROM webhooks WHERE tenant_id = :tenant) < :most RETURNING id"""),
            {
                "tenant": tenant_id,
                "url": url,
                "events": [str(event) for event in events],
                "secret": secret,
                "most": MOST_WEBHOOKS,
            },
        )
    ).scalar()
    return made


async def get(connection: AsyncConnection, tenant_id: UUID, webhook_id: UUID) -> Webhook | None:
    row = (
        await connection.execute(
            text(f"{_WEBHOOK} WHERE id = :id AND tenant_id = :tenant"), {"id": webhook_id, "tenant": tenant_id}
        )
    ).first()
    return None if row is None else _webhook(row)


async def of_tenant(connection: AsyncConnection, tenant_id: UUID) -> list[Webhook]:
    """All of a tenant's, oldest first; there are never many."""
    rows = await connection.execute(
        text(f"{_WEBHOOK} WHERE tenant_id = :tenant ORDER BY created_at, id"), {"tenant": tenant_id}
    )
    return [_webhook(row) for row in rows]


async def remove(connection: AsyncConnection, tenant_id: UUID, webhook_id: UUID) -> None:
    """Removes a webhook with all that is owed to it."""
    await connection.execute(
        text("DELETE FROM webhooks WHERE id = :id AND tenant_id = :tenant"), {"id": webhook_id, "tenant": tenant_id}
    )


async def rotate(
    connection: AsyncConnection, tenant_id: UUID, webhook_id: UUID, *, secret: str, overlap: timedelta
) -> None:
    """Gives a webhook another secret; the one it had signs beside it for so long."""
    await connection.execute(
        text("""
            UPDATE webhooks SET old_secret = secret, secret = :secret,
                old_secret_until = clock_timestamp() + CAST(:overlap AS interval)
            WHERE id = :id AND tenant_id = :tenant"""),
        {"id": webhook_id, "tenant": tenant_id, "secret": secret, "overlap": overlap},
    )


async def enable(connection: AsyncConnection, tenant_id: UUID, webhook_id: UUID) -> None:
    """Sends to a webhook again, beginning with what is pending."""
    await connection.execute(
        text("""
            UPDATE webhooks SET disabled_at = NULL, disabled_why = '', rests_until = NULL
            WHERE id = :id AND tenant_id = :tenant"""),
        {"id": webhook_id, "tenant": tenant_id},
    )
    await deliveries.wake(connection)


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(**{**row._mapping, "events": [Notice(event) for event in row.events]})
