"""Loose files, a folder a chunk, with the metadata file that Hugging Face's `imagefolder` reads.

    data/r000-000012/000006001.jpg  000006002.png  …   then, last:   data/r000-000012/metadata.parquet

Loaders follow the metadata, so its rows are what the chunk holds: whoever stores it first has decided.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared.chunk import NewObject
from shared.recipe import ImageKind
from uploader.adopt import create_or_find, fetch, find
from uploader.formats.base import Delivery, Holding, Picture, facts_of
from uploader.formats.container import read_ours
from uploader.formats.metadata import FILE_NAME, metadata_of, read_metadata
from uploader.formats.parquet import CONTENT_TYPE
from uploader.naming import file_key, folder, metadata_key, row_of
from uploader.puts import for_each

_FETCHED_BACK = "stored"


class Files:
    """The default: a person can look at it."""

    async def put(self, delivery: Delivery, pictures: Sequence[Picture]) -> Holding:
        listed = {stored.key async for stored in delivery.store.list(folder(delivery.claim))}
        if metadata_key(delivery.claim) in listed:
            held = _as_if_stored(delivery, pictures)
        else:
            held = await _put_each(delivery, pictures, _loose(delivery, listed))
        return await _seal(delivery, held) if held.rows or listed else held


def _as_if_stored(delivery: Delivery, pictures: Sequence[Picture]) -> Holding:
    """What is held if the metadata that lies there turns out to be the same as ours."""
    held = Holding()
    for picture in pictures:
        path = file_key(delivery.claim, picture.row, picture.kind)
        delivery.stored(1, len(picture.body))
        held.rows[picture.row] = facts_of(picture.record, path=path)
        held.size_bytes += len(picture.body)
    return held


def _loose(delivery: Delivery, keys: set[str]) -> dict[int, dict[ImageKind, str]]:
    """Files of this chunk that lie there already: row -> format -> key."""
    loose: dict[int, dict[ImageKind, str]] = defaultdict(dict)
    for key in keys:
        named = row_of(key.removeprefix(folder(delivery.claim)))
        if named is not None and named[0] in delivery.records:
            loose[named[0]][named[1]] = key
    return loose


async def _put_each(
    delivery: Delivery, pictures: Sequence[Picture], loose: Mapping[int, Mapping[ImageKind, str]]
) -> Holding:
    wanted = {picture.row: picture for picture in pictures}
    held = Holding()

    async def settle(row: int) -> None:
        await _settle_row(delivery, held, row, wanted.get(row), loose.get(row, {}))

    await for_each(sorted({*wanted, *loose}), settle, limit=delivery.puts)
    held.rows = dict(sorted(held.rows.items()))
    return held


async def _settle_row(
    delivery: Delivery, held: Holding, row: int, picture: Picture | None, loose: Mapping[ImageKind, str]
) -> None:
    if loose:
        kind = picture.kind if picture is not None and picture.kind in loose else min(loose)
        stored = await find(delivery.store, loose[kind])
        assert stored is not None, "files are never removed while their chunk is stored"
    else:
        assert picture is not None, "a row is wanted or lies there"
        kind, stored = picture.kind, await _put(delivery, picture)
    delivery.stored(1, stored.size_bytes)
    is_ours = picture is not None and picture.sha256 == stored.sha256
    held.rows[row] = (
        facts_of(picture.record, path=stored.key) if picture is not None and is_ours else _little_known(kind, stored)
    )
    held.size_bytes += stored.size_bytes
    held.conflicts += not is_ours


async def _put(delivery: Delivery, picture: Picture) -> NewObject:
    return await create_or_find(
        delivery.store,
        file_key(delivery.claim, picture.row, picture.kind),
        picture.body,
        size_bytes=len(picture.body),
        content_type=picture.kind.content_type,
        sha256=picture.sha256,
    )


def _little_known(kind: ImageKind, stored: NewObject) -> dict[str, object]:
    """The facts of a file whose attempt did not live to write its metadata."""
    known = {"stored_format": kind.value, "stored_bytes": stored.size_bytes, "stored_sha256": stored.sha256}
    return facts_of(known, path=stored.key)


async def _seal(delivery: Delivery, held: Holding) -> Holding:
    """Stores the metadata; if another one lies there, its rows are what the chunk holds."""
    body = await asyncio.to_thread(metadata_of, held.rows, delivery.records, delivery.saved)
    sha256 = hashlib.sha256(body).hexdigest()
    stored = await create_or_find(
        delivery.store,
        metadata_key(delivery.claim),
        body,
        size_bytes=len(body),
        content_type=CONTENT_TYPE,
        sha256=sha256,
    )
    if stored.sha256 != sha256:
        held = await _read_back(delivery, stored, conflicts=held.conflicts + 1)
    held.objects = [stored]
    held.size_bytes += stored.size_bytes
    return held


async def _read_back(delivery: Delivery, stored: NewObject, *, conflicts: int) -> Holding:
    path = delivery.draft.path(_FETCHED_BACK)
    try:
        await fetch(delivery.store, stored, path)
        records = await asyncio.to_thread(read_ours, read_metadata, path, delivery.records)
    finally:
        path.unlink(missing_ok=True)
    place = folder(delivery.claim)
    rows = {record["row"]: facts_of(record, path=place + record[FILE_NAME]) for record in records}
    return Holding(rows=rows, size_bytes=sum(record["stored_bytes"] for record in records), conflicts=conflicts)
