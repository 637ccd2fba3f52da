"""The interface of an output format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from shared.chunk import Claim, NewObject
from shared.index import PICTURE_FACTS, Record
from shared.recipe import ImageKind
from shared.storage.base import ObjectStore
from shared.workdir.base import Draft


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An accepted image that is to be stored: its index record and its bytes, a window on a pack."""

    record: Record
    kind: ImageKind
    body: memoryview

    @property
    def row(self) -> int:
        row: int = self.record["row"]
        return row

    @property
    def sha256(self) -> str:
        """Of the bytes to store, hex."""
        digest: str = self.record["stored_sha256"]
        return digest


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where a chunk's pictures go, and with what."""

    claim: Claim
    store: ObjectStore
    draft: Draft
    #: The client's own columns.
    saved: Sequence[pa.Field]
    #: The index record of every row of the chunk, accepted or not.
    records: Mapping[int, Record]
    #: Objects put at once.
    puts: int
    #: Called with the pictures and bytes of each object that is stored.
    stored: Callable[[int, int], None]


@dataclass(kw_only=True)
class Holding:
    """What the destination holds of a chunk once its pictures are delivered.

    `rows` gives each held row the facts of its stored image (`PICTURE_FACTS`) and the object's key as `path`.
    """

    rows: dict[int, Record] = field(default_factory=dict)
    #: The objects to remember; loose image files are not among them, their metadata file names them.
    objects: list[NewObject] = field(default_factory=list)
    size_bytes: int = 0
    #: Objects that were there with other bytes.
    conflicts: int = 0

    def add(self, other: "Holding") -> None:
        """Takes in another part of the chunk; a row that is held already stays where it is."""
        self.rows = {**other.rows, **self.rows}
        self.objects += other.objects
        self.size_bytes += other.size_bytes
        self.conflicts += other.conflicts


class Format(Protocol):
    """One way to lay a chunk's images down."""

    async def put(self, delivery: Delivery, pictures: Sequence[Picture]) -> Holding:
        """Stores the pictures, given in row order, and says what is held then.

        What another attempt left at the same keys stays and is reported. Raises ChunkError when it is not ours.
        """
        ...


def facts_of(record: Mapping[str, Any], *, path: str) -> Record:
    """What `Holding` says of a row, from anything that has the index's names."""
    return {**{name: record.get(name) for name in PICTURE_FACTS}, "path": path}
