"""What to do when the destination holds an object already: the stored one wins and is never overwritten.

key is free             ──▶ created
same bytes are stored   ──▶ as good as created: our own lost answer, or a worker that lost its claim
other bytes are stored  ──▶ a conflict: the caller reads back what the stored object holds
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa

from shared import metrics
from shared.chunk import Claim, NewObject
from shared.errors import ChunkError
from shared.index import from_parquet, index_key, object_keys
from shared.recipe import OutputFormat
from shared.storage.base import ObjectStore, StoredObject
from shared.workdir.local import full_disk_is_transient

#: Read at once when an object is read back, bytes; bounds memory.
_PIECE = 8 * 1024 * 1024

_HELD = {result: metrics.objects_held.labels(result=result) for result in ("stored", "found")}


async def create_or_find(
    store: ObjectStore, key: str, body: bytes | memoryview | Path, *, size_bytes: int, content_type: str, sha256: str
) -> NewObject:
    """The object that lies at the key afterwards: compare its `sha256` to learn whose it is."""
    is_new = await store.create(key, body, content_type=content_type, sha256=sha256)
    _HELD["stored" if is_new else "found"].inc()
    if is_new:
        return NewObject(key=key, size_bytes=size_bytes, sha256=sha256)
    found = await find(store, key)
    if found is None:
        raise ChunkError("an object of the dataset was removed while the chunk was stored")
    return found


async def find(store: ObjectStore, key: str) -> NewObject | None:
    """The stored object with its hash, which is computed if its writer recorded none; None when there is none."""
    stored = await store.stat(key)
    if stored is None:
        return None
    return NewObject(key=key, size_bytes=stored.size_bytes, sha256=stored.sha256 or await _hash(store, stored))


async def fetch(store: ObjectStore, stored: NewObject, path: Path) -> None:
    """Writes a stored object into a local file, piece by piece."""
    with full_disk_is_transient(), path.open("wb") as file:
        async for piece in _pieces(store, stored.key, stored.size_bytes):
            await asyncio.to_thread(file.write, piece)


async def _hash(store: ObjectStore, stored: StoredObject) -> str:
    digest = hashlib.sha256()
    async for piece in _pieces(store, stored.key, stored.size_bytes):
        await asyncio.to_thread(digest.update, piece)
    return digest.hexdigest()


async def _pieces(store: ObjectStore, key: str, size_bytes: int) -> AsyncIterator[bytes]:
    for offset in range(0, size_bytes, _PIECE):
        yield await store.get(key, offset=offset, length=min(_PIECE, size_bytes - offset))


async def finished_index(store: ObjectStore, claim: Claim) -> tuple[pa.Table, NewObject] | None:
    """The chunk's index when an earlier attempt finished it. Raises ChunkError when it is another chunk's."""
    stored = await find(store, index_key(claim.revision, claim.ordinal, claim.round))
    if stored is None:
        return None
    try:
        index = await asyncio.to_thread(from_parquet, await store.get(stored.key))
    except ValueError as error:
        raise ChunkError("the destination holds an index that is not of this dataset") from error
    if len(index) != claim.rows or index["row"][0].as_py() != claim.first_row:
        raise ChunkError("the destination holds another dataset's index")
    return index, stored


async def objects_of(store: ObjectStore, index: pa.Table) -> list[NewObject]:
    """The objects to remember of a finished chunk. Raises ChunkError when one is gone."""
    found = [await find(store, key) for key in object_keys(index)]
    if None in found:
        raise ChunkError("the destination has lost an object of a finished chunk")
    return [stored for stored in found if stored is not None]


def loose_bytes(claim: Claim, index: pa.Table) -> int:
    """The size of a finished chunk's image files, which are no objects to remember."""
    if claim.recipe.output_format is not OutputFormat.FILES:
        return 0
    return sum(size or 0 for size in index["stored_bytes"].to_pylist())
