"""Lists that arrive in parts, at whichever copy of the gateway.

    part ──▶ file here, counted and digested ──▶ spool ──▶ counted in the database, if the upload still ends there
    all of them ──▶ one after the other into a file here, digested ──▶ spool, as any list

What is kept between two requests lies in the spool and in the database, nothing here.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

from gateway.auth import Caller
from gateway.problems import ApiError, Code, not_found
from gateway.services import Services
from gateway.sources import plain_name, received, store_list
from shared.db import parts, tenants
from shared.db.parts import Arriving, StoredPart
from shared.db.session import transaction
from shared.errors import BadSource
from shared.spool import list_key, part_key
from shared.workdir.local import full_disk_is_transient

#: Uploads of a tenant that are not whole.
_MOST_OPEN = 20
#: Parts of one upload; one of 16 GiB in parts of 8 MiB has 2,048.
_MOST_PARTS = 10_000
_MEDIA_TYPE = "application/octet-stream"
_BLOCK = 8 * 1024**2


async def begin(services: Services, caller: Caller, filename: str) -> Arriving:
    """Raises ApiError (429) when too many were begun and not completed."""
    async with transaction(services.resources.engine) as connection:
        await tenants.take_turns(connection, caller.tenant_id)
        begun = await parts.begin(connection, tenant_id=caller.tenant_id, filename=filename, most_open=_MOST_OPEN)
    if begun is None:
        raise ApiError(
            Code.QUOTA_EXCEEDED,
            f"{_MOST_OPEN} uploads of yours are not complete; complete one, or delete it",
            headers={"Retry-After": "60"},
        )
    return begun


async def find(services: Services, caller: Caller, upload_id: UUID) -> Arriving:
    """Raises the same ApiError for what never was and for what is another tenant's."""
    async with transaction(services.resources.engine) as connection:
        found = await parts.get(connection, caller.tenant_id, upload_id)
    if found is None:
        raise not_found()
    return found


async def take_part(
    services: Services, caller: Caller, upload_id: UUID, *, at: int, body: AsyncIterator[bytes]
) -> Arriving:
    """Adds a part that begins at that offset. Raises ApiError (409 with the true offset when it is another)."""
    _check_place(await find(services, caller, upload_id), at)
    async with received(services.settings, body, "part") as file:
        if at + file.size_bytes > services.settings.max_manifest_bytes:
            raise ApiError(
                Code.BODY_TOO_LARGE, f"the list is larger than {services.settings.max_manifest_bytes:,} bytes"
            )
        part = StoredPart(key=part_key(upload_id, at, file.sha256), size_bytes=file.size_bytes)
        await services.resources.spool.create(part.key, file.path, content_type=_MEDIA_TYPE, sha256=file.sha256)
    async with transaction(services.resources.engine) as connection:
        is_counted = await parts.add(connection, caller.tenant_id, upload_id, at=at, part=part, most_parts=_MOST_PARTS)
    now = await find(services, caller, upload_id)
    if not is_counted:
        _check_place(now, at)
        raise ApiError(
            Code.BODY_TOO_LARGE, f"the list has {_MOST_PARTS:,} parts, the most there may be; send larger ones"
        )
    return now


async def complete(services: Services, caller: Caller, upload_id: UUID, *, sha256: str | None) -> Arriving:
    """Makes a list of the parts. May be repeated. Raises ApiError, BadSource when the digest is another."""
    found = await find(services, caller, upload_id)
    if not found.is_complete:
        await _put_together(services, caller, found, sha256)
        found = await find(services, caller, upload_id)
    if not found.is_complete:
        raise _elsewhere(found)
    _check_digest(found.sha256 or "", sha256)
    return found


async def _put_together(services: Services, caller: Caller, found: Arriving, sha256: str | None) -> None:
    resources = services.resources
    async with transaction(resources.engine) as connection:
        stored = await parts.of_upload(connection, found.id)
    if not stored:
        raise BadSource("the list is empty; send its parts first")
    with tempfile.TemporaryDirectory(prefix="pixcrawler-list-") as folder:
        path = Path(folder) / plain_name(found.filename)
        with full_disk_is_transient():
            digest = await _written(services, stored, path)
        _check_digest(digest, sha256)
        key = list_key(caller.tenant_id, digest)
        await store_list(resources.spool, key, path, digest)
    async with transaction(resources.engine) as connection:
        await parts.complete(
            connection, caller.tenant_id, found.id, key=key, size_bytes=found.size_bytes, sha256=digest
        )


async def _written(services: Services, stored: Sequence[StoredPart], path: Path) -> str:
    """Writes the parts one after the other; their digest."""
    sha256 = hashlib.sha256()
    with path.open("wb") as file:
        for part in stored:
            for offset in range(0, part.size_bytes, _BLOCK):
                length = min(_BLOCK, part.size_bytes - offset)
                try:
                    block = await services.resources.spool.get(part.key, offset=offset, length=length)
                except KeyError:
                    raise BadSource("parts of the list are not kept any more; upload it again") from None
                await asyncio.to_thread(sha256.update, block)
                await asyncio.to_thread(file.write, block)
    return sha256.hexdigest()


def _check_digest(digest: str, wanted: str | None) -> None:
    if wanted is not None and wanted.lower() != digest:
        raise BadSource("what arrived has another SHA-256 than the one you named; upload the list again")


def _check_place(found: Arriving, at: int) -> None:
    if found.is_complete:
        raise ApiError(Code.UPLOAD_COMPLETE, "the list is whole; begin another upload for another one")
    if found.size_bytes != at:
        raise _elsewhere(found)


def _elsewhere(found: Arriving) -> ApiError:
    return ApiError(
        Code.UPLOAD_OFFSET,
        f"{found.size_bytes:,} bytes have arrived; go on from there",
        headers={"Upload-Offset": str(found.size_bytes)},
    )


async def abandon(services: Services, caller: Caller, upload_id: UUID) -> Arriving:
    """Gives an upload up that is not whole; its parts are removed with time. Raises ApiError."""
    found = await find(services, caller, upload_id)
    async with transaction(services.resources.engine) as connection:
        if not await parts.abandon(connection, caller.tenant_id, upload_id):
            raise ApiError(Code.UPLOAD_COMPLETE, "the list is whole, and kept as long as a job needs it")
    return found
