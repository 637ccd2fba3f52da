"""Lists that clients uploaded: what lies in the spool, and whose it is."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, kw_only=True)
class StoredList:
    """A list that lies whole in the spool."""

    id: UUID
    filename: str
    key: str
    size_bytes: int
    sha256: str


async def add(
    connection: AsyncConnection, *, tenant_id: UUID, filename: str, key: str, size_bytes: int, sha256: str
) -> UUID:
    """Records a list that the spool holds already."""
    made: UUID = await connection.scalar(
        text("""
            INSERT INTO uploads (tenant_id, filename, key, size_bytes, sha256, is_complete)
            VALUES (:tenant, :filename, :key, :size_bytes, :sha256, true) RETURNING id"""),
        {"tenant": tenant_id, "filename": filename, "key": key, "size_bytes": size_bytes, "sha256": sha256},
    )
    return made


async def get(connection: AsyncConnection, tenant_id: UUID, upload_id: UUID) -> StoredList | None:
    """A list of this tenant's; None also when it is somebody else's."""
    found = await connection.execute(
        text("""
            SELECT id, filename, key, size_bytes, sha256 FROM uploads
            WHERE id = :id AND tenant_id = :tenant AND is_complete"""),
        {"id": upload_id, "tenant": tenant_id},
    )
    row = found.one_or_none()
    return None if row is None else StoredList(**row._asdict())
