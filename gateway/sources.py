"""The client's list as a local file, wherever it comes from, and its place in the spool.

A list lies in the spool under its tenant and content, so storing one again stores nothing.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from gateway.destinations import why_not
from gateway.problems import ApiError, Code
from gateway.schemas import ListOptions, Source
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.web_lists import is_web, name_in
from shared.db import uploads
from shared.db.session import transaction
from shared.errors import BadSource, StoreRefused
from shared.failpoints import reach
from shared.manifest import ListFormat, digest_of, open_list, write_rows
from shared.manifest.formats import format_of
from shared.pipeline import CHUNK_ROWS
from shared.resources import Resources
from shared.spool import list_key
from shared.storage import Destination, ObjectStore, Scheme
from shared.workdir.local import full_disk_is_transient

_BLOCK = 8 * 1024**2
_MEDIA_TYPE = "application/octet-stream"
_SCRATCH = "pixcrawler-list-"
_LONGEST_NAME = 120


@dataclass(frozen=True, kw_only=True)
class LocalList:
    """A list as a file of ours, gone when its context ends."""

    path: Path
    sha256: str
    spool_key: str
    is_spooled: bool


@dataclass(frozen=True, kw_only=True)
class Received:
    """A list while it was written down."""

    path: Path
    size_bytes: int
    sha256: str


def plain_name(filename: str) -> str:
    """The last part of what a client calls its file, fit to be a file's name here."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(character if character.isalnum() or character in "._-" else "_" for character in last)
    return kept.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".") or "list"


@asynccontextmanager
async def local_list(services: Services, tenant_id: UUID, source: Source) -> AsyncIterator[LocalList]:
    """The list a request names. Raises BadSource, ApiError, TransientError, StoreRefused."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as name:
        with full_disk_is_transient():
            found = await _found(Path(name), services, tenant_id, source)
        yield found


@asynccontextmanager
async def list_of_job(resources: Resources, source: Mapping[str, Any]) -> AsyncIterator[LocalList]:
    """The list that a job was made from. Raises BadSource when it has none, or it is not kept any more."""
    if "key" not in source:
        raise BadSource("this job has no list of its own; take the job that built the dataset")
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as name:
        path = Path(name) / "list"
        with full_disk_is_transient():
            is_there = await _fetch(resources.spool, source["key"], path)
        if not is_there:
            raise BadSource("the job's list is not kept any more; submit it again")
        yield LocalList(path=path, sha256=source["digest"], spool_key=source["key"], is_spooled=True)


@asynccontextmanager
async def received(settings: GatewaySettings, blocks: AsyncIterator[bytes], filename: str) -> AsyncIterator[Received]:
    """A body written to a file while it arrives, in bounded memory. Raises ApiError when it is too large."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as name:
        path = Path(name) / plain_name(filename)
        size, sha256 = 0, hashlib.sha256()
        with path.open("wb") as file, full_disk_is_transient():
            async for block in _gathered(blocks):
                size += len(block)
                if size > settings.max_manifest_bytes:
                    raise ApiError(
                        Code.BODY_TOO_LARGE, f"the list is larger than {settings.max_manifest_bytes:,} bytes"
                    )
                await asyncio.to_thread(_write, file, sha256, block)
                reach("gateway.block")
        if not size:
            raise BadSource("the list is empty; send the file as the request's body")
        yield Received(path=path, size_bytes=size, sha256=sha256.hexdigest())


async def store_list(spool: ObjectStore, key: str, path: Path, sha256: str) -> None:
    """Puts a list into the spool, unless it lies there already."""
    await spool.create(key, path, content_type=_MEDIA_TYPE, sha256=sha256)


def check_list(path: Path, options: ListOptions) -> ListFormat:
    """Opens the list as the planner will and reads its first chunk. Raises BadSource with what to do.

    Blocks: call it in a thread.
    """
    chosen = options.list_format or format_of(path.name)
    with open_list(
        path,
        list_format=chosen,
        url_col=options.url_col,
        caption_col=options.caption_col,
        save_columns=options.save_columns,
        scratch=path.parent,
    ) as reader:
        reader.read(CHUNK_ROWS)
    return chosen


async def _found(folder: Path, services: Services, tenant_id: UUID, source: Source) -> LocalList:
    settings, resources = services.settings, services.resources
    if source.rows is not None:
        return await _from_rows(folder, source.rows, settings.max_inline_rows, tenant_id)
    if source.manifest_id is not None:
        return await _from_upload(folder, resources, tenant_id, source.manifest_id)
    assert source.reference is not None, "the model allows no fourth case"
    if is_web(source.reference):
        return await _from_web(folder, services, tenant_id, source.reference)
    return await _from_reference(folder, settings, resources, tenant_id, source.reference)


async def _from_rows(folder: Path, rows: Sequence[Mapping[str, object]], most: int, tenant_id: UUID) -> LocalList:
    if len(rows) > most:
        raise BadSource(f"a request holds at most {most:,} rows; upload the list by POST /v1/manifests")
    path = folder / "rows.jsonl"
    await asyncio.to_thread(write_rows, rows, path)
    return await _digested(path, tenant_id)


async def _from_upload(folder: Path, resources: Resources, tenant_id: UUID, manifest_id: str) -> LocalList:
    gone = BadSource("there is no uploaded list of that id; upload it by POST /v1/manifests")
    async with transaction(resources.engine) as connection:
        try:
            upload = await uploads.get(connection, tenant_id, UUID(manifest_id))
        except ValueError:
            raise gone from None
    if upload is None:
        raise gone
    path = folder / plain_name(upload.filename)
    if not await _fetch(resources.spool, upload.key, path):
        raise gone
    return LocalList(path=path, sha256=upload.sha256, spool_key=upload.key, is_spooled=True)


async def _from_reference(
    folder: Path, settings: GatewaySettings, resources: Resources, tenant_id: UUID, reference: str
) -> LocalList:
    parent, _, name = reference.rpartition("/")
    try:
        place = Destination.parse(parent)
    except ValueError as error:
        raise BadSource(f"the reference cannot be read: {error}") from None
    if place.scheme is Scheme.FOLDER:
        raise BadSource(
            "a reference is az://container/path, s3://bucket/path or https://host/path; upload a local file instead"
        )
    if wrong := await why_not(settings, resources, place):
        raise BadSource(f"the reference may not be read: {wrong}")
    path = folder / plain_name(name)
    try:
        async with resources.stores.at(parent, None) as store:
            is_there = await _fetch(store, name, path, most=settings.max_manifest_bytes)
    except StoreRefused as error:
        raise BadSource(f"the list cannot be fetched: {error}") from error
    except ValueError:
        raise BadSource("the reference's file name holds more than letters, digits, . _ -; rename it") from None
    if not is_there:
        raise BadSource("there is no such object; correct the reference")
    return await _digested(path, tenant_id)


async def _from_web(folder: Path, services: Services, tenant_id: UUID, url: str) -> LocalList:
    path = folder / plain_name(name_in(url))
    await services.web_lists.fetch(url, path, most_bytes=services.settings.max_manifest_bytes)
    return await _digested(path, tenant_id)


async def _digested(path: Path, tenant_id: UUID) -> LocalList:
    sha256 = await asyncio.to_thread(digest_of, path)
    return LocalList(path=path, sha256=sha256, spool_key=list_key(tenant_id, sha256), is_spooled=False)


async def _fetch(store: ObjectStore, key: str, path: Path, *, most: int | None = None) -> bool:
    """Copies an object into a file, block by block. False when there is none."""
    known = await store.stat(key)
    if known is None:
        return False
    if most is not None and known.size_bytes > most:
        raise BadSource(f"the list is larger than {most:,} bytes; split it")
    with path.open("wb") as file:
        for offset in range(0, known.size_bytes, _BLOCK):
            block = await store.get(key, offset=offset, length=min(_BLOCK, known.size_bytes - offset))
            await asyncio.to_thread(file.write, block)
    return True


async def _gathered(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Larger blocks: a thread for every few kilobytes would cost more than the writing."""
    waiting = bytearray()
    async for block in blocks:
        waiting += block
        if len(waiting) >= _BLOCK // 8:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _write(file: BinaryIO, sha256: "hashlib._Hash", block: bytes) -> None:
    sha256.update(block)
    file.write(block)
