"""Lists that arrive in parts: how far each is, and where its parts lie in the spool.

A part is stored in the spool first, under its own content, and counted then, by whoever still finds the upload as
long as the part begins. So of two that send the same stretch one is counted, and a crash between costs a resend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """An upload that was begun, and may be whole by now."""

    id: UUID
    filename: str
    size_bytes: int
    sha256: str | None
    is_complete: bool


@dataclass(frozen=True, kw_only=True)
class StoredPart:
    """A part in the spool."""

    key: str
    size_bytes: int


_COLUMNS = "id, filename, size_bytes, sha256, is_complete"


async def begin(connection: AsyncConnection, *, tenant_id: UUID, filename: str, most_open: int) -> Arriving | None:
    """An upload without a part; None when the tenant has that many that are not whole."""
    begun = await connection.execute(
        text(f"""
            INSERT INTO uploads (tenant_id, filename, key) SELECT :tenant, :filename, ''
            WHERE (SELECT count(*) FROM uploads WHERE tenant_id = :tenant AND NOT is_complete) < :most
            RETURNING {_COLUMNS}"""),
        {"tenant": tenant_id, "filename": filename, "most": most_open},
    )
    row = begun.one_or_none()
    return None if row is None else Arriving(**row._mapping)


async def get(connection: AsyncConnection, tenant_id: UUID, upload_id: UUID) -> Arriving | None:
    """An upload of this tenant's, whole or not; None also when it is somebody else's."""
    found = await connection.execute(
        text(f"SELECT {_COLUMNS} FROM uploads WHERE id = :id AND tenant_id = :tenant"),
        {"id": upload_id, "tenant": tenant_id},
    )
    row = found.one_or_none()
    return None if row is None else Arriving(**row._mapping)


async def add(
    connection: AsyncConnection, tenant_id: UUID, upload_id: UUID, *, at: int, part: StoredPart, most_parts: int
) -> bool:
    """Counts a part that begins at that offset.

    False: the upload is not that long, or longer, or whole, or gone, or it has that many parts.
    """
    grown = await connection.execute(
        text("""
            UPDATE uploads SET size_bytes = size_bytes + :size
            WHERE id = :id AND tenant_id = :tenant AND NOT is_complete AND size_bytes = :at
              AND (SELECT count(*) FROM upload_parts WHERE upload_id = :id) < :most"""),
        {"id": upload_id, "tenant": tenant_id, "size": part.size_bytes, "at": at, "most": most_parts},
    )
    if not grown.rowcount:
        return False
    await connection.execute(
        text("""
            INSERT INTO upload_parts (upload_id, at, tenant_id, size_bytes, key)
            VALUES (:id, :at, :tenant, :size, :key)"""),
        {"id": upload_id, "tenant": tenant_id, "size": part.size_bytes, "at": at, "key": part.key},
    )
    return True


async def of_upload(connection: AsyncConnection, upload_id: UUID) -> Sequence[StoredPart]:
    """Its parts in their order."""
    found = await connection.execute(
        text("SELECT key, size_bytes FROM upload_parts WHERE upload_id = :id ORDER BY at"), {"id": upload_id}
    )
    return [StoredPart(**row._mapping) for row in found]


async def complete(
    connection: AsyncConnection, tenant_id: UUID, upload_id: UUID, *, key: str, size_bytes: int, sha256: str
) -> bool:
    """The parts are a list now, which lies whole at that key. False: parts were added meanwhile, or it is whole."""
    done = await connection.execute(
        text("""
            UPDATE uploads SET key = :key, sha256 = :sha256, is_complete = true
            WHERE id = :id AND tenant_id = :tenant AND NOT is_complete AND size_bytes = :size"""),
        {"id": upload_id, "tenant": tenant_id, "key": key, "sha256": sha256, "size": size_bytes},
    )
    if done.rowcount:
        await connection.execute(text("DELETE FROM upload_parts WHERE upload_id = :id"), {"id": upload_id})
    return done.rowcount > 0


async def abandon(connection: AsyncConnection, tenant_id: UUID, upload_id: UUID) -> bool:
    """Forgets an upload that is not whole; False when there is none of that id."""
    gone = await connection.execute(
        text("DELETE FROM uploads WHERE id = :id AND tenant_id = :tenant AND NOT is_complete"),
        {"id": upload_id, "tenant": tenant_id},
    )
    return gone.rowcount > 0


async def unfinished(connection: AsyncConnection, uploads: Sequence[UUID]) -> set[UUID]:
    """Those of the uploads that still wait for parts; one that is unknown does not."""
    found = await connection.execute(
        text("SELECT id FROM uploads WHERE id = ANY(:ids) AND NOT is_complete"), {"ids": list(uploads)}
    )
    return {row.id for row in found}
