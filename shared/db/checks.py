"""Dry runs of uploaded lists: wished by the gateway, carried out by the leading scheduler, one at a time.

One that a leader left unfinished its successor takes first; after three tries it is given up, for then it is the list
that brings the scheduler down.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db import tenants
from shared.pipeline import CheckState

_MOST_TRIES = 3
_GIVEN_UP = "Checking this list broke three times; this is our mistake."


@dataclass(frozen=True, kw_only=True)
class Check:
    """A dry run as its client sees it."""

    id: UUID
    upload_id: UUID
    state: CheckState
    report: Mapping[str, Any] | None
    error_code: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A dry run to be carried out now."""

    id: UUID
    source: Mapping[str, Any]


_COLUMNS = "id, upload_id, state, report, error_code, error, created_at, finished_at"


async def ask(
    connection: AsyncConnection, *, tenant_id: UUID, upload_id: UUID, source: Mapping[str, Any], most_open: int
) -> Check | None:
    """Wishes a dry run; None when the tenant has that many unfinished ones."""
    await tenants.take_turns(connection, tenant_id)
    added = await connection.execute(
        text(f"""
            INSERT INTO list_checks (tenant_id, upload_id, source)
            SELECT :tenant, :upload, CAST(:source AS jsonb)
            WHERE (SELECT count(*) FROM list_checks WHERE tenant_id = :tenant AND finished_at IS NULL) < :most
            RETURNING {_COLUMNS}"""),
        {"tenant": tenant_id, "upload": upload_id, "source": json.dumps(source), "most": most_open},
    )
    return _check(added.one_or_none())


async def get(connection: AsyncConnection, tenant_id: UUID, upload_id: UUID, check_id: UUID) -> Check | None:
    """A dry run of this tenant's list; None also when it is somebody else's."""
    found = await connection.execute(
        text(f"SELECT {_COLUMNS} FROM list_checks WHERE id = :id AND upload_id = :upload AND tenant_id = :tenant"),
        {"id": check_id, "upload": upload_id, "tenant": tenant_id},
    )
    return _check(found.one_or_none())


async def begin(connection: AsyncConnection) -> Begun | None:
    """The next dry run to carry out: one that was left, else the one that waited longest."""
    await connection.execute(
        text("""
            UPDATE list_checks SET state = 'failed', error_code = 'error', error = :error,
                finished_at = clock_timestamp()
            WHERE finished_at IS NULL AND state = 'running' AND tries >= :most"""),
        {"error": _GIVEN_UP, "most": _MOST_TRIES},
    )
    begun = await connection.execute(
        text("""
            UPDATE list_checks SET state = 'running', tries = tries + 1 WHERE id = (
                SELECT id FROM list_checks WHERE finished_at IS NULL
                ORDER BY state = 'running' DESC, created_at LIMIT 1)
            RETURNING id, source""")
    )
    row = begun.one_or_none()
    return None if row is None else Begun(**row._mapping)


async def put_back(connection: AsyncConnection, check_id: UUID) -> None:
    """That try was cut off by trouble that is not the list's."""
    await connection.execute(
        text("UPDATE list_checks SET tries = tries - 1 WHERE id = :id AND finished_at IS NULL"), {"id": check_id}
    )


async def finish(connection: AsyncConnection, check_id: UUID, report: Mapping[str, Any]) -> None:
    await connection.execute(
        text("""
            UPDATE list_checks SET state = 'done', report = CAST(:report AS jsonb), finished_at = clock_timestamp()
            WHERE id = :id AND finished_at IS NULL"""),
        {"id": check_id, "report": json.dumps(report)},
    )


async def fail(connection: AsyncConnection, check_id: UUID, *, error_code: str, error: str) -> None:
    await connection.execute(
        text("""
            UPDATE list_checks SET state = 'failed', error_code = :code, error = :error,
                finished_at = clock_timestamp()
            WHERE id = :id AND finished_at IS NULL"""),
        {"id": check_id, "code": error_code, "error": error},
    )


def _check(row: Any) -> Check | None:
    return None if row is None else Check(**{**row._mapping, "state": CheckState(row.state)})
