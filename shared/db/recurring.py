"""Entries of the calendar that give a dataset a further revision, again and again.

An entry holds the whole revision as it was asked for and checked, so whoever carries it out needs to know nothing of
its kind. Only such entries are made and removed by administrators; the house's own are the code's.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.revisions import NewRevision
from shared.pipeline import JobKind

Json = dict[str, Any]
#: What such an entry has done when it is due; also in infra/postgres/roles.sql.
ERRAND = "renew_dataset"


def name_of(new: NewRevision) -> str:
    """One entry for each kind of revision of a dataset."""
    return f"{new.kind}:{new.dataset_id}"


async def keep(connection: AsyncConnection, new: NewRevision, schedule: Mapping[str, Any]) -> str:
    """Makes the entry, in place of an older one; its name. It is due first when the schedule says so, not at once."""
    name = name_of(new)
    await remove(connection, name)
    await connection.execute(
        text("""
            INSERT INTO calendar (name, schedule, arguments, last_due_at)
            VALUES (:name, CAST(:schedule AS jsonb), CAST(:arguments AS jsonb), clock_timestamp())"""),
        {"name": name, "schedule": json.dumps(dict(schedule)), "arguments": json.dumps(_written(new))},
    )
    return name


async def remove(connection: AsyncConnection, name: str) -> bool:
    """Removes an entry with its runs. False: there is none of that name, or it is the house's own."""
    gone = await connection.execute(
        text("DELETE FROM calendar WHERE name = :name AND arguments ->> 'errand' = :errand"),
        {"name": name, "errand": ERRAND},
    )
    return gone.rowcount > 0


def _written(new: NewRevision) -> Json:
    return {
        "errand": ERRAND,
        "tenant_id": str(new.tenant_id),
        "dataset_id": str(new.dataset_id),
        "kind": new.kind,
        "name": new.name,
        "recipe": dict(new.recipe),
        "source": dict(new.source),
        "digest": new.digest,
    }


def read(arguments: Mapping[str, Any]) -> NewRevision:
    """The revision that an entry's run is to make. Raises ValueError or KeyError when it is of another version."""
    return NewRevision(
        tenant_id=UUID(arguments["tenant_id"]),
        dataset_id=UUID(arguments["dataset_id"]),
        kind=JobKind(arguments["kind"]),
        name=arguments["name"],
        recipe=arguments["recipe"],
        source=arguments["source"],
        digest=arguments["digest"],
    )
