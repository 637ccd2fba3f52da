"""Changes what an ended chunk has stored: rows of its index go, and with them their images.

    read the index ─▶ write its shards anew without the rows, under new keys ─▶ replace the index
        ─▶ drop what it names no more ─▶ say what is left

The index is the border. Before it is replaced nothing has changed for a reader; afterwards the rows are found by
their tombstones, so whoever repeats the work goes on with dropping and counting. Each step can be repeated, and a crash
between two leaves a chunk that works.

The index is exchanged for the version that was read, so a scheduler that was stopped in between undoes nothing of its
successor's. Only the leader changes chunks so, one task at a time for each of them.
"""

import asyncio
import hashlib
import re
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from scheduler.shards import fetch, without_rows, without_rows_in_table
from scheduler.tombstones import PATHS, emptied, emptied_rows, moved, tombs
from shared.chunk import Claim, NewObject
from shared.db import leader, purges
from shared.db.leader import Term
from shared.db.purges import Remainder
from shared.db.session import transaction
from shared.errors import StoreRefused, StoreUnavailable
from shared.index import (
    METADATA_NAME,
    chunk_name,
    counts_of,
    from_parquet,
    index_key,
    object_keys,
    to_parquet,
)
from shared.manifest import digest_of
from shared.reasons import Reason
from shared.recipe import OutputFormat
from shared.records import key_of
from shared.remnants import keys_of_chunk
from shared.resources import Resources
from shared.storage.base import ObjectStore
from shared.workdir.local import full_disk_is_transient

_PARQUET = "application/vnd.apache.parquet"
_TAR = "application/x-tar"
#: So long after the database was asked who leads, it need not be asked again.
_TRUSTED_SECONDS = 1.0
#: A shard's key, without the mark of an earlier purge.
_SHARD = re.compile(r"(?P<place>.*/r\d{3,}-\d{6,})(-[0-9a-f]{16})?(?P<suffix>\.[a-z]+)")


class Lead:
    """Asked before anything is destroyed: what was paused meanwhile must not destroy what a successor made."""

    def __init__(self, resources: Resources, term: Term) -> None:
        self._engine = resources.engine
        self._term = term
        self._until = float("-inf")

    async def check(self) -> None:
        """Raises NotLeader when another leads by now, or did a moment ago."""
        if (now := time.monotonic()) < self._until:
            return
        async with leader.leading(self._engine, self._term):
            pass
        self._until = now + _TRUSTED_SECONDS


@dataclass(frozen=True)
class Found:
    """An index as it was read."""

    key: str
    version: str
    index: pa.Table


async def read_index(store: ObjectStore, claim: Claim) -> Found | None:
    """The chunk's index; None when it stored none."""
    key = index_key(claim.revision, claim.ordinal, claim.round)
    try:
        stored = await store.stat(key)
        index = await asyncio.to_thread(from_parquet, await store.get(key))
    except KeyError:
        return None
    except ValueError as error:
        raise StoreRefused(f"{key} is no index that can be read; move it away") from error
    if len(index) != claim.rows or index["row"][0].as_py() != claim.first_row:
        raise StoreRefused(f"{key} is not the index of this chunk; move it away")
    return None if stored is None else Found(key, stored.version, index)


async def replace_index(store: ObjectStore, found: Found, index: pa.Table, lead: Lead) -> Found:
    """Stores the index in place of the one that was read. Raises NotLeader; StoreUnavailable when it has changed."""
    await lead.check()
    await _exchange(store, found.key, to_parquet(index), version=found.version)
    return replace(found, index=index)


async def without(store: ObjectStore, index: pa.Table, rows: Sequence[int], reason: Reason) -> pa.Table:
    """The index without what these rows hold, for that reason; the shards it names are stored."""
    gone = set(rows)
    places = [place for place in index.select(["row", *PATHS]).to_pylist() if place["row"] in gone]
    paths = sorted({place[name] for place in places for name in PATHS if place[name] is not None})
    shards = {path: await _cut(store, path, gone) for path in paths if _SHARD.fullmatch(path)}
    return moved(await asyncio.to_thread(emptied, index, rows, reason), shards)


async def _cut(store: ObjectStore, key: str, rows: Collection[int]) -> str:
    """Stores a shard without these rows, named by what it holds; its key, or the old one when nothing is left."""
    with tempfile.TemporaryDirectory(prefix="pixcrawler-purge-") as name, full_disk_is_transient():
        old, new = Path(name) / "old", Path(name) / "new"
        try:
            await fetch(store, key, old)
        except KeyError as error:
            raise StoreRefused(f"the index names {key}, which is not there") from error
        if not await asyncio.to_thread(without_rows, key, old, new, rows):
            return key
        sha256 = await asyncio.to_thread(digest_of, new)
        made = _SHARD.sub(rf"\g<place>-{sha256[:16]}\g<suffix>", key)
        content_type = _TAR if key.endswith(".tar") else _PARQUET
        await store.create(made, new, content_type=content_type, sha256=sha256)
    return made


async def drop(store: ObjectStore, claim: Claim, index: pa.Table, lead: Lead) -> None:
    """Deletes what the chunk stored and its index does not name: emptied rows' files, and shards that held them.

    Also what an interrupted upload of a chunk that failed left of them.
    """
    gone = tombs(index)
    if claim.recipe.output_format is OutputFormat.FILES:
        await _drop_files(store, claim, gone, lead)
        if claim.recipe.thumbnails is None:
            return
    named = set(object_keys(index))
    folder = _folder(claim)
    for key in [key async for key in keys_of_chunk(store, claim) if key not in named and not key.startswith(folder)]:
        await lead.check()
        await store.delete(key)


def _folder(claim: Claim) -> str:
    """Of a chunk's loose files, which have their own way to go; its shards lie elsewhere."""
    return f"data/{chunk_name(claim.revision, claim.ordinal)}/"


async def _drop_files(store: ObjectStore, claim: Claim, gone: Sequence[int], lead: Lead) -> None:
    """Metadata first: a loader must not look for a file that is not there."""
    folder = _folder(claim)
    await _drop_metadata(store, folder + METADATA_NAME, gone, lead)
    names = {key_of(row) for row in gone}
    async for stored in store.list(folder):
        if stored.key.removeprefix(folder).partition(".")[0] in names:
            await lead.check()
            await store.delete(stored.key)


async def _drop_metadata(store: ObjectStore, key: str, gone: Sequence[int], lead: Lead) -> None:
    stored = await store.stat(key)
    if stored is None:
        return
    body = await store.get(key)
    kept = await asyncio.to_thread(without_rows_in_table, key, body, gone)
    await lead.check()
    if kept is None:
        await store.delete(key)
    elif kept != body:
        await _exchange(store, key, kept, version=stored.version)


async def _exchange(store: ObjectStore, key: str, body: bytes, *, version: str) -> None:
    sha256 = hashlib.sha256(body).hexdigest()
    if not await store.exchange(key, body, version=version, content_type=_PARQUET, sha256=sha256):
        raise StoreUnavailable(f"{key} was changed meanwhile; it is looked at again")


async def remainder(resources: Resources, store: ObjectStore, claim: Claim, index: pa.Table) -> Remainder:
    async with transaction(resources.engine) as connection:
        known = await purges.objects_of_chunk(connection, claim.chunk_id)
    unchanged = {key: item for key, item in known.items() if _SHARD.fullmatch(key) and not key.startswith("index/")}
    keys = [*object_keys(index), index_key(claim.revision, claim.ordinal, claim.round)]
    objects = [unchanged.get(key) or await _as_stored(store, key) for key in keys]
    accepted, by_reason = counts_of(index)
    return Remainder(
        counts={"accepted": accepted, "rejected": by_reason},
        stored_bytes=sum(item.size_bytes for item in objects) + _loose_bytes(claim, index),
        objects=objects,
        emptied_rows=emptied_rows(index),
    )


async def _as_stored(store: ObjectStore, key: str) -> NewObject:
    with tempfile.TemporaryDirectory(prefix="pixcrawler-purge-") as name, full_disk_is_transient():
        path = Path(name) / "stored"
        try:
            await fetch(store, key, path)
        except KeyError as error:
            raise StoreRefused(f"the index names {key}, which is not there") from error
        return NewObject(key=key, size_bytes=path.stat().st_size, sha256=await asyncio.to_thread(digest_of, path))


def _loose_bytes(claim: Claim, index: pa.Table) -> int:
    """The size of image files, which are no objects to remember."""
    if claim.recipe.output_format is not OutputFormat.FILES:
        return 0
    return sum(size or 0 for size in index["stored_bytes"].to_pylist())
