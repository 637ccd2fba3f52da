"""Small pictures of a chunk's images, all in one Parquet file beside its index, if the recipe asks for them.

It is stored after the images and before the index, and like them: create-only, and what lies there already stays. Each
picture names the stored image that it was made of, so one that an earlier attempt left is taken for no other image.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.chunk import Chunk, NewObject
from shared.index import Record, is_accepted, thumbnails_key
from shared.records import THUMBNAILS
from shared.workdir.local import full_disk_is_transient
from uploader.adopt import create_or_find, fetch, find
from uploader.formats.container import HashedFile, read_ours
from uploader.formats.parquet import CONTENT_TYPE, read_columns
from uploader.packs import Verdicts, thumbnails_in

#: One group is read to show one picture: half a megabyte at the most usual sizes.
_GROUP_ROWS = 20
_DRAFTED = "thumbnails"


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small picture, and the hash of the stored image that it shows."""

    row: int
    stored_sha256: str
    body: bytes


async def put_thumbnails(
    chunk: Chunk, verdicts: Verdicts, records: Sequence[Record]
) -> tuple[list[Record], NewObject | None]:
    """The records with the object that holds their thumbnails, and that object; None when there is none.

    Raises ChunkError when the destination holds there what is not of this dataset.
    """
    if chunk.claim.recipe.thumbnails is None:
        return list(records), None
    with thumbnails_in(verdicts) as bodies:
        own = [
            Thumbnail(row=record["row"], stored_sha256=record["stored_sha256"], body=bodies[record["row"]].body)
            for record in records
            if is_accepted(record)
            and record["row"] in bodies
            and bodies[record["row"]].stored_sha256 == record["stored_sha256"]
        ]
        stored, shown = await _store(chunk, own, rows={record["row"] for record in records})
    if stored is None:
        return list(records), None
    named = [
        {**record, "thumbnail_path": stored.key}
        if is_accepted(record) and shown.get(record["row"]) == record["stored_sha256"]
        else record
        for record in records
    ]
    return named, stored if any(record["thumbnail_path"] for record in named) else None


async def _store(chunk: Chunk, own: Sequence[Thumbnail], rows: set[int]) -> tuple[NewObject | None, Mapping[int, str]]:
    """The object that lies there afterwards, and which images its rows show."""
    store, draft = await chunk.destination(), await chunk.draft()
    key = thumbnails_key(chunk.claim.revision, chunk.claim.ordinal)
    path = draft.path(_DRAFTED)
    try:
        stored, sha256 = await find(store, key), ""
        if stored is None and own:
            sha256, size_bytes = await asyncio.to_thread(_write, path, own)
            stored = await create_or_find(
                store, key, path, size_bytes=size_bytes, content_type=CONTENT_TYPE, sha256=sha256
            )
        if stored is None:
            return None, {}
        if stored.sha256 == sha256:
            return stored, {each.row: each.stored_sha256 for each in own}
        await fetch(store, stored, path)
        found = await asyncio.to_thread(read_ours, _read, path, rows)
        return stored, {each["row"]: each["stored_sha256"] for each in found}
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, thumbnails: Sequence[Thumbnail]) -> tuple[str, int]:
    with full_disk_is_transient():
        file = HashedFile(path)
        try:
            with pq.ParquetWriter(
                file, THUMBNAILS, compression="none", use_dictionary=False, write_statistics=["row"]
            ) as writer:
                for group in _groups(thumbnails):
                    writer.write_table(_table(group), row_group_size=_GROUP_ROWS)
        finally:
            file.close()
    return file.sha256, file.size_bytes


def _groups(thumbnails: Sequence[Thumbnail]) -> Iterator[Sequence[Thumbnail]]:
    for start in range(0, len(thumbnails), _GROUP_ROWS):
        yield thumbnails[start : start + _GROUP_ROWS]


def _table(thumbnails: Sequence[Thumbnail]) -> pa.Table:
    columns = [
        pa.array([each.row for each in thumbnails], pa.int64()),
        pa.array([each.stored_sha256 for each in thumbnails], pa.string()),
        pa.array([each.body for each in thumbnails], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=THUMBNAILS)


def _read(path: Path) -> list[Record]:
    return read_columns(path, ["row", "stored_sha256"])
