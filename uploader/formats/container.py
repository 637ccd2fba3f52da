"""Formats that put many pictures into one object: a tar shard or a Parquet file."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from shared.chunk import Claim, NewObject
from shared.errors import ChunkError
from shared.index import Record
from shared.recipe import ImageKind
from shared.storage.parts import FinishedFile
from shared.workdir.local import full_disk_is_transient
from uploader.adopt import create_or_find, fetch, find
from uploader.formats.base import Delivery, Holding, Picture, facts_of

_DRAFTED = "container"
_FETCHED_BACK = "stored"


class Container(Protocol):
    """A kind of object that holds pictures."""

    content_type: str

    def key(self, claim: Claim, kind: ImageKind) -> str:
        """Of the object that holds the chunk's pictures of that format."""
        ...

    def write(self, file: "HashedFile", pictures: Sequence[Picture], saved: Sequence[pa.Field]) -> None:
        """Writes the pictures in their order; equal pictures give equal bytes."""
        ...

    def read(self, path: Path) -> list[Record]:
        """What an object of this kind says of its rows. Raises ValueError when it is none of ours."""
        ...


class HashedFile:
    """A file being written, and the hash and size of what was written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self.size_bytes

    def close(self) -> None:
        self._file.close()
        self.closed = True

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ContainerFormat:
    """Writes each container as a file in the draft and puts it whole."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def put(self, delivery: Delivery, pictures: Sequence[Picture]) -> Holding:
        keys = sorted({self._container.key(delivery.claim, kind) for kind in ImageKind})
        found = {key: await find(delivery.store, key) for key in keys}
        held = Holding()
        # What lies there comes first: a row that a stored container holds must not go into another one.
        for key in sorted(keys, key=lambda key: (found[key] is None, key)):
            own = [picture for picture in pictures if self._belongs(delivery.claim, picture, key, held.rows)]
            held.add(await self._settle(delivery, key, found[key], own))
        return held

    def _belongs(self, claim: Claim, picture: Picture, key: str, held: Mapping[int, Any]) -> bool:
        return picture.row not in held and self._container.key(claim, picture.kind) == key

    async def _settle(
        self, delivery: Delivery, key: str, found: NewObject | None, pictures: Sequence[Picture]
    ) -> Holding:
        if not pictures:
            return await self._read_back(delivery, found) if found else Holding()
        path = delivery.draft.path(_DRAFTED)
        try:
            sha256, size_bytes = await asyncio.to_thread(self._write, path, pictures, delivery.saved)
            stored = found or await create_or_find(
                delivery.store,
                key,
                FinishedFile(path),
                size_bytes=size_bytes,
                content_type=self._container.content_type,
                sha256=sha256,
            )
        finally:
            path.unlink(missing_ok=True)
        if stored.sha256 != sha256:
            return await self._read_back(delivery, stored)
        delivery.stored(len(pictures), stored.size_bytes)
        rows = {picture.row: facts_of(picture.record, path=key) for picture in pictures}
        return Holding(rows=rows, objects=[stored], size_bytes=stored.size_bytes)

    def _write(self, path: Path, pictures: Sequence[Picture], saved: Sequence[pa.Field]) -> tuple[str, int]:
        with full_disk_is_transient():
            file = HashedFile(path)
            try:
                self._container.write(file, pictures, saved)
            finally:
                file.close()
        return file.sha256, file.size_bytes

    async def _read_back(self, delivery: Delivery, stored: NewObject) -> Holding:
        path = delivery.draft.path(_FETCHED_BACK)
        try:
            await fetch(delivery.store, stored, path)
            records = await asyncio.to_thread(read_ours, self._container.read, path, delivery.records)
        finally:
            path.unlink(missing_ok=True)
        delivery.stored(len(records), stored.size_bytes)
        rows = {record["row"]: facts_of(record, path=stored.key) for record in records}
        return Holding(rows=rows, objects=[stored], size_bytes=stored.size_bytes, conflicts=1)


def read_ours(read: Callable[[Path], list[Record]], path: Path, own: Collection[int]) -> list[Record]:
    """The records of a stored object. Raises ChunkError when they are not of the chunk's own rows."""
    try:
        records = read(path)
    except (ValueError, KeyError, OSError) as error:
        raise ChunkError("the destination holds an object that is not of this dataset") from error
    if not all(record["row"] in own for record in records):
        raise ChunkError("the destination holds another dataset's object")
    return records
