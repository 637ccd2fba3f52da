"""Remnants: what the upload of a chunk had stored that ended without a result.

A chunk that failed keeps them, for when it is redriven its upload finds them and stores nothing twice. One that was
cancelled, or dropped, stores nothing any more: no row of its index names an object, and what lies there would do so
for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Collection

from shared.chunk import Claim
from shared.index import METADATA_NAME, THUMBNAILS_FOLDER, chunk_name
from shared.recipe import ImageFormat, ImageKind, OutputFormat
from shared.storage.base import ObjectStore, StoredObject

#: Of a loose file or a shard, behind the chunk's name.
_BEHIND_NAME = ("/", ".", "-")
#: Deleted at once.
_AT_ONCE = 16


async def objects_of_chunk(store: ObjectStore, claim: Claim) -> AsyncIterator[StoredObject]:
    """The objects that a chunk made in all its rounds, but for its indexes."""
    for prefix in _prefixes(claim):
        async for stored in store.list(prefix):
            if stored.key.removeprefix(prefix).startswith(_BEHIND_NAME):
                yield stored


async def keys_of_chunk(store: ObjectStore, claim: Claim) -> AsyncIterator[str]:
    """Their keys."""
    async for stored in objects_of_chunk(store, claim):
        yield stored.key


async def remove_remnants(store: ObjectStore, claim: Claim) -> int:
    """Removes all of them; how many. For a chunk that stores nothing any more, and whose index names nothing."""
    keys = [key async for key in keys_of_chunk(store, claim)]
    await remove(store, keys)
    return len(keys)


async def remove(store: ObjectStore, keys: Collection[str]) -> None:
    """Removes objects of one chunk."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def delete(key: str) -> None:
        async with places:
            await store.delete(key)

    # Metadata first: a loader must not look for a file that is not there.
    for metadata in [key for key in keys if key.endswith(f"/{METADATA_NAME}")]:
        await store.delete(metadata)
    await asyncio.gather(*map(delete, keys))


def _prefixes(claim: Claim) -> list[str]:
    """What the keys of the chunk's objects begin with."""
    name = chunk_name(claim.revision, claim.ordinal)
    thumbnails = [] if claim.recipe.thumbnails is None else [f"{THUMBNAILS_FOLDER}{name}"]
    if claim.recipe.output_format is OutputFormat.WEBDATASET and claim.recipe.stored_format is ImageFormat.ORIGINAL:
        return [*(f"data/{kind.value}/{name}" for kind in ImageKind), *thumbnails]
    return [f"data/{name}", *thumbnails]
