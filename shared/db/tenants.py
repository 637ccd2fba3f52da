"""Tenants: who submits jobs, what was agreed with them, and what they have used today."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.pipeline import FINAL_JOB_STATES, Tier, tier_of
from shared.quotas import Limits, Quota, Usage, read_limits

#: What `read` makes a tenant of, under names that do not meet those of a joined table.
COLUMNS = """tenants.id AS tenant_id, tenants.name AS tenant_name, plan, quotas, rows_planned,
    tenants.created_at AS tenant_created_at, suspended_at, clock_timestamp() AS seen_at"""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A tenant as it was when it was read."""

    id: UUID
    name: str
    plan: Tier  #: as agreed
    quotas: Mapping[Quota, int | None]  #: as agreed with this one; the rest is as for its tier
    rows_planned: int  #: of all its jobs
    created_at: datetime
    suspended_at: datetime | None
    seen_at: datetime  #: by the database's clock

    @property
    def tier(self) -> Tier:
        """The one that counts now: a new tenant has a head start."""
        return tier_of(plan=self.plan, created_at=self.created_at, now=self.seen_at, rows_planned=self.rows_planned)

    def limits(self, by_tier: Mapping[Tier, Limits]) -> Limits:
        """The limits that hold for it, given those of the tiers."""
        return {**by_tier.get(self.tier, {}), **self.quotas}


def read(row: Row[Any]) -> Tenant:
    """The tenant of a row that has `COLUMNS`."""
    return Tenant(
        id=row.tenant_id,
        name=row.tenant_name,
        plan=Tier(row.plan),
        quotas=read_limits(row.quotas),
        rows_planned=row.rows_planned,
        created_at=row.tenant_created_at,
        suspended_at=row.suspended_at,
        seen_at=row.seen_at,
    )


async def every(connection: AsyncConnection) -> list[Tenant]:
    """All tenants, by name."""
    found = await connection.execute(text(f"SELECT {COLUMNS} FROM tenants ORDER BY name"))
    return [read(row) for row in found]


async def get(connection: AsyncConnection, tenant_id: UUID) -> Tenant | None:
    """The tenant of that id; None when there is none."""
    found = await connection.execute(text(f"SELECT {COLUMNS} FROM tenants WHERE id = :id"), {"id": tenant_id})
    row = found.one_or_none()
    return None if row is None else read(row)


async def named(connection: AsyncConnection, name: str) -> Tenant | None:
    """The tenant of that name; None when there is none."""
    found = await connection.execute(text(f"SELECT {COLUMNS} FROM tenants WHERE name = :name"), {"name": name})
    row = found.one_or_none()
    return None if row is None else read(row)


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


async def change_plan(connection: AsyncConnection, tenant_id: UUID, plan: Tier) -> bool:
    """Agrees on another tier, for chunks planned from now on. False when there is no such tenant."""
    return await _changed(connection, tenant_id, "plan = :plan", plan=plan)


async def set_quotas(connection: AsyncConnection, tenant_id: UUID, limits: Limits) -> bool:
    """Agrees on limits of its own, instead of those agreed before. False when there is no such tenant."""
    written = json.dumps({str(quota): limit for quota, limit in limits.items()})
    return await _changed(connection, tenant_id, "quotas = CAST(:quotas AS jsonb)", quotas=written)


async def suspend(connection: AsyncConnection, tenant_id: UUID) -> bool:
    """Shuts its keys out until it is let in again; its jobs go on. False when there is no such tenant."""
    return await _changed(connection, tenant_id, "suspended_at = coalesce(suspended_at, clock_timestamp())")


async def let_in(connection: AsyncConnection, tenant_id: UUID) -> bool:
    """Ends a suspension. False when there is no such tenant."""
    return await _changed(connection, tenant_id, "suspended_at = NULL")


async def usage(connection: AsyncConnection, tenant_id: UUID) -> Usage:
    """What its jobs have used: those that have not ended, and those submitted since midnight UTC."""
    found = await connection.execute(
        text("""
            SELECT count(*) FILTER (WHERE state <> ALL(:final)) AS open_jobs,
                   coalesce(sum(planned_rows) FILTER (WHERE created_at >= today), 0)::bigint AS rows_a_day,
                   coalesce(sum(stored_bytes) FILTER (WHERE created_at >= today), 0)::bigint AS bytes_a_day,
                   clock_timestamp() AS at
            FROM jobs, (SELECT date_trunc('day', now(), 'UTC') AS today) AS days
            WHERE tenant_id = :tenant AND (created_at >= today OR state <> ALL(:final))"""),
        {"tenant": tenant_id, "final": sorted(FINAL_JOB_STATES)},
    )
    return Usage(**found.one()._mapping)


async def take_turns(connection: AsyncConnection, tenant_id: UUID) -> None:
    """Until the transaction ends, no other one of this tenant's gets past here: for counting and then adding."""
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('tenant ' || CAST(:tenant AS text), 0))"),
        {"tenant": str(tenant_id)},
    )


async def _changed(connection: AsyncConnection, tenant_id: UUID, change: str, **values: object) -> bool:
    done = await connection.execute(text(f"UPDATE tenants SET {change} WHERE id = :id"), {"id": tenant_id, **values})
    return done.rowcount > 0
